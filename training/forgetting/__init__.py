"""What `sisa forget`, `where`, `plan` and `status` do; the commands themselves parse and print."""

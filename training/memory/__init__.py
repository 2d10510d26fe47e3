"""What the workspace remembers of samples without naming them: `.sisa/`, which neither git nor DVC carries along."""

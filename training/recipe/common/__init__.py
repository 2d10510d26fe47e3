"""What every recipe shares: seeds, schedule, loop, and which samples and which predecessor a slice gets."""

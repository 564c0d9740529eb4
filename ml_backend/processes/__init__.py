"""What it takes to start processes, end them, and read what they log."""

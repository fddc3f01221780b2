"""What runs leave behind: provenance, the state to resume from, and progress on the screen."""

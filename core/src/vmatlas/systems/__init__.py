"""What is known of an operating system by more than one plugin. A system that one plugin serves keeps it there."""

"""What runs the files of each format."""

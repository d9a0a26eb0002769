"""What runs exported steps: a module for every format, which imports what it needs when it opens a file."""

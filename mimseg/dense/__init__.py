"""What turns the student into a dense backbone."""

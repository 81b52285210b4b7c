"""Turns full images into targets on the student's token grid."""

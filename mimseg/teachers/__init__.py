"""Teachers: from a full image to targets on the student's token grid."""

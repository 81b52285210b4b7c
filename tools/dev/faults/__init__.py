"""Breaks trainings, resumes them, and shows that nothing is lost."""

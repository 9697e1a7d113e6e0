"""Answers that are searched for: the runs that decide a question are chosen one after another, and run on the store."""

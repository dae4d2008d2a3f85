"""What can be done with drops: one face, `Shop`, for every transport."""

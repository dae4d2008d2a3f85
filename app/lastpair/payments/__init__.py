"""Taking money with the help of a provider: the providers, what is told to them, and what they tell."""

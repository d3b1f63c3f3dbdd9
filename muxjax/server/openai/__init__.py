"""OpenAI's JSON: requests read and checked, answers written."""

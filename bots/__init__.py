"""Bots to put on a line, and to learn from; each uses only what `voicebridge` exports."""

"""What can be said of a pack or a data set before anything is trained: counts, duplicates, leakage, lengths, voice.

Each module looks at one thing and returns numbers and examples; ``persllm.checks.reading`` reads what is checked, and
``persllm.checks.showing`` prints it.
"""

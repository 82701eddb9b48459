"""Order items by the platform's score, a person's affect and feedback, under the affect guard.

Imports nothing of this project but kernels.
"""

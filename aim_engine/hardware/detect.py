"""The detector table: surroundings and a wish in, an `Inventory` out, or the reasons there is none.

Knows the order in which layers are asked, nothing of how they look.
"""

"""The official clients read the fake provider: what they make of its healthy scenarios is what the scenarios say.

Their models of the wire are checked strictly besides, as the clients themselves take nearly any body without a word.
"""

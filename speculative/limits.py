"""Bounds of speculation that other parts must know. Imports no torch: the gateway's process reads them."""

MAX_NODES = 64  # of a token tree: a row's ancestors are the bits of one word

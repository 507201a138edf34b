"""Analysis of recorded trials: importance, winners, proxy audit. Numbers in, numbers out; never torch."""

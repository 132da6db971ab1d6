"""Backtest of the hot list: the requests that lists of past nights would have caught, in real or made traffic."""

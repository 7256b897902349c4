"""Everything that can die or stall does: two rounds of the kill matrix. Its long form is kill_matrix.py --rounds N."""

from kill_matrix import play_matrix
from scenario import scenario


@scenario
def kill_matrix():
    play_matrix(2)

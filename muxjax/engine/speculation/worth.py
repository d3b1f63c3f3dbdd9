"""Whether drafts are worth it: what they lately brought, against what their rows and the host's turn cost. Pure, with hysteresis."""

from dataclasses import dataclass, replace

TURN_PRICE = 0.1
"""Tokens a row that a step must win, since nothing is launched ahead of it: the device waits for the host's turn meanwhile."""
DRAFT_PRICE = 1 / 200
"""And that each draft of the step must: a row more makes a decode about so much longer, up to a hundred of them (an 8B on an H200)."""
TRIAL = 0.25
"""Worth that is taken for granted when drafts are tried, so that a dozen steps must be in vain before they are given up."""
REST_STEPS = 128
"""Steps without drafts until they are tried again."""
_NEWS = 0.1
"""Weight of a new step against all before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Worth of drafts for one model, by its steps so far.

    Args:
      tokens: that a row lately won in a step beyond its price, in the mean.
      rest: steps until drafts are tried again; 0 while they are made.
      rows: of the last step that decoded.
    """

    tokens: float = TRIAL
    rest: int = 0
    rows: int = 0

    def speculates(self, most_rows: int) -> bool:
        """Drafts are to be made: they have been worth it, and every row has place for one in a step of so many rows."""
        return not self.rest and 2 * self.rows <= most_rows

    def after(self, *, rows: int, drafts: int, accepted: int, most_rows: int, waited: float = 0.0) -> "Worth":
        """When a step has ended that decoded so many rows, at least one, with so many drafts, of which so many were right.

        Args:
          waited: for drafts, by all rows together, in steps of that length, each of which would have made a token.
        """
        if not self.speculates(most_rows):
            return replace(self, rest=max(0, self.rest - 1), rows=rows)
        won = (accepted - waited) / rows - TURN_PRICE - DRAFT_PRICE * drafts
        tokens = self.tokens + _NEWS * (won - self.tokens)
        return Worth(tokens=tokens, rows=rows) if tokens > 0 else Worth(rest=REST_STEPS, rows=rows)

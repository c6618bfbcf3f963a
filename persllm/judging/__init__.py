"""A judge: a language model that scores replies against the recorded answers, and ranks arms by comparing pairs.

As in arXiv 2407.12393 (evaluation): do two replies say the same, from 0 to 5, for knowledge and for attitude; and which
arm's reply is nearer to the recorded one. What the paper's one-shot ranking lacks is added: names are masked, arms are
not named, pairs are shown in both orders, scores are repeated at a temperature above 0, and the same judge is tried in
the same run on answers whose label is known. Without that certificate its numbers head no table.

``prompts`` asks, ``reading`` reads, ``masking`` hides names, ``design`` says which arms meet on which item, ``planted``
makes the answers with known labels, ``bench`` puts these to the judge, ``certificate`` and ``correction`` reckon.
"""

from persllm.metrics import Metric

FAMILY = "Judge"
METRICS = {
    "judge_knowledge": Metric("Knowledge, judged", "0 to 5"),
    "judge_attitude": Metric("Attitude, judged", "0 to 5"),
}
"""What the step judge gives each arm and item. They may head a table only where the certificate is held."""
SCALE = 5
"""The highest score; 0 is the lowest."""
PATTERNS = {"knowledge": "knowledge", "opinion": "attitude"}
"""The patterns of the items that are judged, and after what."""
PADDING = (
    "Thank you for asking me that. It is a good question, and I am glad that you put it so plainly. Let me think it "
    "over for a moment, for it deserves an answer with some care in it, and I should not like to speak in haste. "
    "Well, then, this is what I have to say on the matter:"
)
"""Words that say nothing, about as long as an answer."""

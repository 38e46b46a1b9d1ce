"""Means, differences and curves of stored runs, each with an interval that says over what it is.

Also: `panel.panel`, `budgets.budgets` and `power.power`, which have the names of their modules.
"""

from paper_tables.statistics.bootstrap import Interval as Interval
from paper_tables.statistics.bootstrap import interquartile_mean as interquartile_mean
from paper_tables.statistics.bootstrap import interval as interval
from paper_tables.statistics.distance import AtDistance as AtDistance
from paper_tables.statistics.distance import difference_at_distance as difference_at_distance
from paper_tables.statistics.distance import divergence as divergence
from paper_tables.statistics.files import write as write
from paper_tables.statistics.outcomes import Wins as Wins
from paper_tables.statistics.outcomes import difference as difference
from paper_tables.statistics.outcomes import final as final
from paper_tables.statistics.outcomes import wins as wins
from paper_tables.statistics.panel import Panel as Panel
from paper_tables.statistics.panel import scores as scores
from paper_tables.statistics.power import Power as Power
from paper_tables.statistics.training import Matched as Matched
from paper_tables.statistics.training import Peak as Peak
from paper_tables.statistics.training import area_between as area_between
from paper_tables.statistics.training import hacking as hacking
from paper_tables.statistics.training import matched_gold as matched_gold
from paper_tables.statistics.training import peak as peak

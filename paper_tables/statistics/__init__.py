"""Means, differences and curves of stored runs, each with an interval that says over what it is."""

from paper_tables.statistics.bootstrap import Interval as Interval
from paper_tables.statistics.bootstrap import interquartile_mean as interquartile_mean
from paper_tables.statistics.bootstrap import interval as interval
from paper_tables.statistics.outcomes import Wins as Wins
from paper_tables.statistics.outcomes import difference as difference
from paper_tables.statistics.outcomes import final as final
from paper_tables.statistics.outcomes import wins as wins
from paper_tables.statistics.panel import Panel as Panel
from paper_tables.statistics.panel import panel as panel
from paper_tables.statistics.panel import scores as scores

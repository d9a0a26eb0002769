"""A model as a person sees it: the table of its layers the pictures of its layers and of its timing."""

from .graph import graph_svg as graph_svg
from .table import summary as summary
from .table import summary_rows as summary_rows
from .timeline import timeline_svg as timeline_svg
from .timeline import timing_svg as timing_svg

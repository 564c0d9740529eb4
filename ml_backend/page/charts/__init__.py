"""Charts of versions and lines: data, drawn as SVG once."""

from ml_backend.page.charts.chart import Chart, Point, Series
from ml_backend.page.charts.drawing import Drawings
from ml_backend.page.charts.line_charts import leaderboard_chart, versions_chart
from ml_backend.page.charts.version_charts import charts_of

__all__ = ["Chart", "Drawings", "Point", "Series", "charts_of", "leaderboard_chart", "versions_chart"]

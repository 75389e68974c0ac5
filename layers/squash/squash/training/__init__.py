"""From a sample of an index's vectors to what is shared by all of its partitions."""

from squash.training.clustering import Assigner, group_clusters, kmeans, split_rows
from squash.training.ordering import short_path

__all__ = ["Assigner", "group_clusters", "kmeans", "short_path", "split_rows"]

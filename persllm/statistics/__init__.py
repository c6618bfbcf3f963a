"""Statistics for paired items in clusters; numpy and scipy only, seeded, indifferent to the order of rows."""

from persllm.statistics.agreement import Level, Weighting, cohen_kappa, krippendorff_alpha
from persllm.statistics.comparisons import Abilities, bradley_terry
from persllm.statistics.correction import Corrected, Rate, effective_rate, prediction_powered_mean, rogan_gladen
from persllm.statistics.derived import Contrast, Derived, derived_contrast, derived_estimate
from persllm.statistics.estimate import Estimate, expanded_confidence, percentile
from persllm.statistics.mixed import MixedDifference, mixed_difference
from persllm.statistics.multiplicity import benjamini_hochberg, holm
from persllm.statistics.permutation import EXACT_CLUSTERS, Statistic, label_swap_p, sign_flip_p
from persllm.statistics.power import (
    Plan,
    clustered_standard_error,
    detectable_difference,
    planned_detectable,
    planned_power,
    planned_standard_error,
    required_size,
)
from persllm.statistics.reliability import cronbach_alpha, split_half
from persllm.statistics.resampling import (
    Floats,
    Ints,
    Resampler,
    bootstrap_interval,
    cluster_sums,
    item_means,
    resampled_item_means,
)
from persllm.statistics.signal_detection import (
    criterion,
    criterion_of_means,
    d_prime,
    d_prime_of_means,
    log_linear_rate,
)
from persllm.statistics.variances import Components, components

__all__ = [
    "EXACT_CLUSTERS",
    "Abilities",
    "Components",
    "Contrast",
    "Corrected",
    "Derived",
    "Estimate",
    "Floats",
    "Ints",
    "Level",
    "MixedDifference",
    "Plan",
    "Rate",
    "Resampler",
    "Statistic",
    "Weighting",
    "benjamini_hochberg",
    "bootstrap_interval",
    "bradley_terry",
    "cluster_sums",
    "clustered_standard_error",
    "cohen_kappa",
    "components",
    "criterion",
    "criterion_of_means",
    "cronbach_alpha",
    "d_prime",
    "d_prime_of_means",
    "derived_contrast",
    "derived_estimate",
    "detectable_difference",
    "effective_rate",
    "expanded_confidence",
    "holm",
    "item_means",
    "krippendorff_alpha",
    "label_swap_p",
    "log_linear_rate",
    "mixed_difference",
    "percentile",
    "planned_detectable",
    "planned_power",
    "planned_standard_error",
    "prediction_powered_mean",
    "required_size",
    "resampled_item_means",
    "rogan_gladen",
    "sign_flip_p",
    "split_half",
]

"""One row an algorithm; the generic tests walk all rows, and a registered algorithm without one fails."""

#: name → an odd value for every hyper-parameter it declares; those of ``roga_domainbed.optim``, then the others.
ODD_VALUES = {
    "RoGA": {
        "rho": 0.123,
        "alpha": 0.0456,
        "roga_terms": "align",
        "roga_anchor": "pooled",
        "roga_gradient": "exact",
        "roga_parts": "random",
        "roga_every": 1,  # its odd values go with the other estimator: see test_cheaper_hparams.py
        "roga_ascent_fraction": 1.0,  # as do its with replay_rng off
    },
    "SAM": {"rho": 0.123},
    "DISAM": {"rho": 0.123, "disam_lambda": 0.456},
    "ASAM": {"rho": 0.123, "asam_eta": 0.0456},
    "GSAM": {"rho": 0.123, "alpha": 0.0456},
    "SAGM": {"rho": 0.123, "alpha": 0.0456},
    "LookSAM": {"rho": 0.123, "looksam_alpha": 0.0456, "looksam_every": 3},
    "GAM": {
        "rho": 0.123,
        "gam_rho_inner": 0.0789,
        "gam_alpha": 0.456,
        "gam_beta": 0.567,
        "gam_gamma": 0.678,
    },
    "FAD": {"rho": 0.123, "fad_alpha": 0.456, "fad_beta": 0.567},
    "DGSAM": {"rho": 0.123},
    "GACFAS": {"rho": 0.123, "alpha": 0.0456, "asam_eta": 0.0456},
}
SHARED_ODD_VALUES = {"optimizer": "sgd", "momentum": 0.789, "replay_rng": True}
OTHERS_ODD_VALUES = {
    "PCGrad": {},
    "CAGrad": {"cagrad_c": 0.789},
    "LTW": {"ltw_inner_lr": 0.123, "ltw_alpha": 0.456, "ltw_lambda": 0.0789},
    "CORE": {"core_alpha": 12.3},
    "ForensicTransfer": {"lr": 0.00123, "ft_gamma": 0.456},
}

//! How long a run takes, and how many steps fit into the time that it is given.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::detectors::kind::DetectorKind;
use crate::error::TrainError;

/// How long a run takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// This number of steps of each scale: a run can be repeated to the byte.
    Steps(usize),
    /// At most this number of seconds in all. The number of steps follows from a short timing on this machine and is recorded with the
    /// model. A student–teacher run with Muon takes no more than [`QUICK_STEPS`](crate::detectors::student_teacher::QUICK_STEPS),
    /// however much time is left.
    Budget(u64),
}

impl Length {
    /// The steps, unless they follow from a budget.
    pub fn steps(self) -> Option<usize> {
        match self {
            Self::Steps(steps) => Some(steps),
            Self::Budget(_) => None,
        }
    }

    /// The budget in seconds, if there is one.
    pub fn budget(self) -> Option<u64> {
        match self {
            Self::Steps(_) => None,
            Self::Budget(seconds) => Some(seconds),
        }
    }
}

/// A network's part of a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// The whole budget, in seconds.
    pub budget: u64,
    /// Seconds for this network's steps; below 0 if what is beside them takes more than the share.
    pub left: f64,
    /// Networks that share what is left of the budget: this one and those after it.
    pub networks: usize,
}

impl Share {
    /// The share of the first of `networks` networks. `budget` is the whole budget, of which `gone` seconds are spent. The network
    /// needs `beside` for other work than steps.
    pub fn new(budget: u64, gone: f64, networks: usize, beside: Duration) -> Self {
        Self {
            budget,
            left: (budget as f64 - gone) / networks as f64 - beside.as_secs_f64(),
            networks,
        }
    }

    /// How many steps of `each` fit into the share. `aside` gives the other work that a number of steps needs, counted in steps.
    ///
    /// # Errors
    /// [`TrainError::BudgetBelowSmallest`] if there are less than `fewest` steps: `what` learns nothing in fewer.
    pub fn steps(
        &self,
        each: Duration,
        (what, fewest): (DetectorKind, usize),
        aside: impl Fn(usize) -> f64,
    ) -> Result<usize, TrainError> {
        let each = each.as_secs_f64().max(1e-6);
        let all = self.left.max(0.0) / each;
        // What more steps need beside them is not less.
        let steps = (all - aside(all as usize)).max(0.0) as usize;
        if steps >= fewest {
            return Ok(steps);
        }
        let needed = fewest as f64 + aside(fewest);
        // A second more of the budget is a part of one for each network; a tenth is for other times of the same steps.
        let missing = 1.1 * self.networks as f64 * (each * needed - self.left);
        Err(TrainError::BudgetBelowSmallest {
            what,
            steps: fewest,
            smallest_seconds: self.budget + (missing.ceil() as u64).max(1),
        })
    }
}

//! The budget of a scale: how many steps fit into its time.

use std::time::Duration;

use pupilla_core::observer::Observer;

use super::config::Quick;
use super::early_stop;
use super::training::NORM_BATCHES;
use crate::detectors::kind::DetectorKind;
use crate::error::TrainError;
use crate::patch_network::ReceptiveField;
use crate::training::budget::Share;

/// A budget for fewer steps than this is refused, because students learn nothing in fewer. A later scale takes this number in any case.
const FEWEST_STEPS: usize = 20;

/// The work of a run beside its `steps` steps, counted in steps: measurements on the watched images, and the statistics of batch norm. A step
/// is a forward pass, and a backward pass of about twice its work.
pub(super) fn steps_aside(quick: &Quick, watched: usize, steps: usize) -> f64 {
    let measurements = steps / early_stop::interval(steps, watched) + 1;
    let norm = if quick.batch_norm { NORM_BATCHES } else { 0 };
    (norm * quick.windows + measurements * watched) as f64 / (3 * quick.windows) as f64
}

/// How many steps of `each`, with the other work of a run, fit into the rest of a share; no more than are worth taking.
pub(super) fn steps_within(
    quick: &Quick,
    watched: usize,
    share: &Share,
    each: Duration,
) -> Result<usize, TrainError> {
    let fewest = (DetectorKind::StudentTeacher, FEWEST_STEPS);
    let steps = share.steps(each, fewest, |steps| steps_aside(quick, watched, steps))?;
    Ok(steps.min(quick.most_budgeted_steps()))
}

/// The steps of a scale after `earlier` scales. If the budget is not enough for a later scale, it takes the fewest steps, with a
/// warning: the finished scales are not thrown away because the machine has become slower.
pub(super) fn affordable(
    within: Result<usize, TrainError>,
    earlier: usize,
    field: ReceptiveField,
    observer: &mut dyn Observer,
) -> Result<usize, TrainError> {
    match within {
        Err(TrainError::BudgetBelowSmallest {
            smallest_seconds, ..
        }) if earlier > 0 => {
            observer.warn(&format!(
                "the budget does not reach for p={field}: it is trained for {FEWEST_STEPS} steps, the fewest, which overruns it; about {smallest_seconds} s would have been enough"
            ));
            Ok(FEWEST_STEPS)
        }
        within => within,
    }
}

#[cfg(test)]
mod tests {
    use pupilla_nn::Optimizer;

    use super::*;

    #[test]
    fn a_later_scale_is_trained_whatever_is_left() {
        #[derive(Default)]
        struct Warnings(Vec<String>);
        impl Observer for Warnings {
            fn warn(&mut self, text: &str) {
                self.0.push(text.to_string());
            }
        }
        let lacks = || {
            let share = Share::new(60, 60.0, 1, Duration::ZERO);
            steps_within(&Quick::default(), 0, &share, Duration::from_secs(2))
        };
        let field = ReceptiveField::P65;
        let mut seen = Warnings::default();
        assert!(matches!(
            affordable(lacks(), 0, field, &mut seen),
            Err(TrainError::BudgetBelowSmallest { .. })
        ));
        assert!(seen.0.is_empty());
        assert_eq!(
            affordable(lacks(), 1, field, &mut seen).unwrap(),
            FEWEST_STEPS
        );
        assert!(
            seen.0[0].contains("p=65") && seen.0[0].contains("20 steps"),
            "{:?}",
            seen.0
        );
        assert_eq!(affordable(Ok(70), 1, field, &mut seen).unwrap(), 70);
        assert_eq!(seen.0.len(), 1);
    }

    #[test]
    fn a_budget_becomes_whole_steps_or_says_the_smallest() {
        let seconds = Duration::from_secs;
        let plain = Quick {
            batch_norm: false,
            ..Quick::default()
        };
        let steps = |share| steps_within(&plain, 0, &share, seconds(2));
        let smallest = |share| match steps(share) {
            Err(
                error @ TrainError::BudgetBelowSmallest {
                    smallest_seconds, ..
                },
            ) => {
                let asked = format!("at least {smallest_seconds} s");
                assert!(error.to_string().contains(&asked), "{error}");
                smallest_seconds
            }
            other => panic!("{other:?}"),
        };
        let none = seconds(0);
        assert_eq!(steps(Share::new(61, 0.0, 1, none)).unwrap(), 30);
        assert_eq!(steps(Share::new(131, 9.0, 2, none)).unwrap(), 30);
        // 20 steps of 2 s; a tenth of the 30 s that are missing is added.
        assert_eq!(smallest(Share::new(10, 0.0, 1, none)), 43);
        // Both scales lack 30 s.
        assert_eq!(smallest(Share::new(20, 0.0, 2, none)), 86);
        // What is gone, and what is beside the steps, is missing too, though the share is over with it.
        assert_eq!(smallest(Share::new(10, 4.0, 1, seconds(26))), 76);
        // What is named suffices.
        assert_eq!(steps(Share::new(76, 4.0, 1, seconds(26))).unwrap(), 23);
    }

    #[test]
    fn what_a_run_does_beside_its_steps_is_within_the_budget() {
        // Muon's steps are limited.
        let quick = Quick {
            optimizer: Optimizer::Adam,
            ..Quick::default()
        };
        for (left, watched) in [(100, 0), (700, 4), (700, 16), (36_000, 16)] {
            let each = Duration::from_millis(500);
            let share = Share::new(left, 0.0, 1, Duration::ZERO);
            let steps = steps_within(&quick, watched, &share, each).unwrap();
            let all = steps as f64 + steps_aside(&quick, watched, steps);
            assert!(all <= 2.0 * left as f64, "{left}: {all}");
            assert!(
                all > 0.95 * 2.0 * left as f64,
                "{left}: only {all} of {}",
                2 * left
            );
        }
    }
}

//! The kinds of detectors, by the names that the command line and model files have for them.

use std::fmt;
use std::str::FromStr;

use pupilla_core::map::heatmap::Heatmap;

/// Calls a macro with the list of all detectors, by family: the variant of [`DetectorKind`], its name, its
/// module in the family's folder, and what it is. A new detector begins here; what else it needs, the compiler asks for.
macro_rules! all_detectors {
    ($define:ident) => {
        $define! {
            student_teacher: {
                StudentTeacher, "student-teacher", "Students that predict a teacher.";
            }
            embedding: {
                NearestNeighbour, "1-nn", knn, "Distance to the nearest of many embeddings of good images.";
                OneClassSvm, "oc-svm", one_class_svm, "A one-class support vector machine over embeddings.";
                KMeans, "k-means", k_means, "Distance to the nearest of a few centres of embeddings.";
                CnnDictionary, "cnn-dictionary", dictionary, "Mean distance to the nearest words of a dictionary of a pretrained network's features.";
                MemoryBank, "memory-bank", memory_bank, "Distance to the nearest of a coreset of features (PatchCore).";
                Padim, "padim", padim, "A Gaussian of features at each position (PaDiM).";
                Mahalanobis, "mahalanobis", mahalanobis, "One Gaussian of features of all positions.";
            }
            reconstruction: {
                SquaredErrorAutoencoder, "l2-ae", autoencoder, "Squared error of an autoencoder's reconstruction.";
                SimilarityAutoencoder, "ssim-ae", autoencoder, "Structural dissimilarity of an autoencoder's reconstruction.";
                VariationalAutoencoder, "vae", vae, "Squared error of a variational autoencoder's reconstruction.";
                AnoGan, "anogan", anogan, "Residual of the nearest image that a generator makes.";
            }
        }
    };
}
pub(crate) use all_detectors;

/// A family of detectors: what they learn, and how they are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Students that predict a teacher ([`crate::student_teacher`]).
    StudentTeacher,
    /// Features of good images, compared with ([`crate::embedding`]).
    Embedding,
    /// Networks that reconstruct good images ([`crate::reconstruction`]).
    Reconstruction,
}

/// Defines [`DetectorKind`].
macro_rules! kinds {
    (
        student_teacher: { $student_teacher:ident, $student_teacher_name:literal, $student_teacher_doc:literal; }
        embedding: { $($embedding:ident, $embedding_name:literal, $module:ident, $embedding_doc:literal;)* }
        reconstruction: { $($reconstruction:ident, $reconstruction_name:literal, $reconstruction_module:ident, $reconstruction_doc:literal;)* }
    ) => {
        /// A kind of detector. Its name is `kind` in a model file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DetectorKind {
            #[doc = $student_teacher_doc]
            $student_teacher,
            $(#[doc = $embedding_doc] $embedding,)*
            $(#[doc = $reconstruction_doc] $reconstruction,)*
        }

        impl DetectorKind {
            /// All of them, family by family.
            pub const ALL: [Self; Self::COUNT] = [
                Self::$student_teacher,
                $(Self::$embedding,)*
                $(Self::$reconstruction,)*
            ];

            const COUNT: usize = [$student_teacher_name, $($embedding_name,)* $($reconstruction_name,)*].len();

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::$student_teacher => $student_teacher_name,
                    $(Self::$embedding => $embedding_name,)*
                    $(Self::$reconstruction => $reconstruction_name,)*
                }
            }

            /// What it is, in a sentence.
            pub const fn description(self) -> &'static str {
                match self {
                    Self::$student_teacher => $student_teacher_doc,
                    $(Self::$embedding => $embedding_doc,)*
                    $(Self::$reconstruction => $reconstruction_doc,)*
                }
            }

            /// Its family.
            pub const fn family(self) -> Family {
                match self {
                    Self::$student_teacher => Family::StudentTeacher,
                    $(Self::$embedding => Family::Embedding,)*
                    $(Self::$reconstruction => Family::Reconstruction,)*
                }
            }
        }
    };
}

all_detectors!(kinds);

/// The memory bank: with default settings, it finds most, and is trained in minutes (`docs/decisions/0010-the-default-detector.md`).
impl Default for DetectorKind {
    fn default() -> Self {
        Self::MemoryBank
    }
}

/// A word that names no detector.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{name:?} is not a detector: choose {}", DetectorKind::ALL.map(DetectorKind::name).join(", "))]
pub struct UnknownDetector {
    name: String,
}

impl DetectorKind {
    /// Names that other programs and publications have for a detector, beside its own.
    pub const ALIASES: [(&'static str, Self); 8] = [
        ("patchcore", Self::MemoryBank),
        ("uninformed-students", Self::StudentTeacher),
        ("us", Self::StudentTeacher),
        ("knn", Self::NearestNeighbour),
        ("one-class-svm", Self::OneClassSvm),
        ("cnn-feature-dictionary", Self::CnnDictionary),
        ("ae-ssim", Self::SimilarityAutoencoder),
        ("ae-l2", Self::SquaredErrorAutoencoder),
    ];

    /// The detector of this name, letter by letter, as model files have it.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Colours with the same meaning in every picture: no colour up to a quarter of the image threshold, the strongest colour from one
    /// and a half times the threshold on.
    ///
    /// Scores of a student–teacher are in units of the standard deviation on good parts, so a threshold below 1 counts as 1. Scores of
    /// other detectors have other units, and 0.2 may be a large threshold. A threshold of 0 counts as 1.
    pub fn heatmap(self, threshold: f32) -> Heatmap {
        let unit = match self {
            Self::StudentTeacher => threshold.abs().max(1.0),
            _ if threshold == 0.0 => 1.0,
            _ => threshold.abs(),
        };
        Heatmap {
            low: threshold - 0.75 * unit,
            high: threshold + 0.5 * unit,
        }
    }

    /// The detectors of a family.
    pub fn of_family(family: Family) -> impl Iterator<Item = Self> {
        let all = Self::ALL.into_iter();
        all.filter(move |kind| kind.family() == family)
    }

    /// Whether its networks are trained step by step, so that steps or a budget can be chosen.
    pub const fn is_trained_in_steps(self) -> bool {
        matches!(
            self.family(),
            Family::StudentTeacher | Family::Reconstruction
        )
    }
}

impl fmt::Display for DetectorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name of a detector, or a name that other programs and publications have for it ([`DetectorKind::ALIASES`]). Capitals, hyphens,
/// underscores and spaces make no difference.
impl FromStr for DetectorKind {
    type Err = UnknownDetector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = letters(text);
        let named = Self::ALL
            .into_iter()
            .find(|kind| letters(kind.name()) == wanted);
        let mut aliases = Self::ALIASES.into_iter();
        let alias = aliases.find(|(alias, _)| letters(alias) == wanted);
        named
            .or(alias.map(|(_, kind)| kind))
            .ok_or_else(|| UnknownDetector {
                name: text.to_string(),
            })
    }
}

/// What counts of a name.
fn letters(name: &str) -> String {
    let counts = |letter: &char| !matches!(letter, '-' | '_' | ' ');
    name.chars()
        .filter(counts)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_kinds() {
        for kind in DetectorKind::ALL {
            assert_eq!(kind.name().parse::<DetectorKind>().unwrap(), kind);
        }
        let error = "2-nn".parse::<DetectorKind>().unwrap_err().to_string();
        assert!(error.contains("2-nn") && error.contains("memory-bank"));
    }

    #[test]
    fn names_of_the_field_lead_to_their_kinds_and_files_have_one_name() {
        for (name, kind) in [
            ("PatchCore", DetectorKind::MemoryBank),
            ("ssim_ae", DetectorKind::SimilarityAutoencoder),
            ("AE-SSIM", DetectorKind::SimilarityAutoencoder),
            ("l2 ae", DetectorKind::SquaredErrorAutoencoder),
            ("1nn", DetectorKind::NearestNeighbour),
            ("ocsvm", DetectorKind::OneClassSvm),
            ("KMeans", DetectorKind::KMeans),
            ("Uninformed_Students", DetectorKind::StudentTeacher),
            ("US", DetectorKind::StudentTeacher),
        ] {
            assert_eq!(name.parse::<DetectorKind>().unwrap(), kind, "{name}");
            assert_eq!(DetectorKind::of_name(name), None, "{name}");
        }
        for kind in DetectorKind::ALL {
            assert_eq!(DetectorKind::of_name(kind.name()), Some(kind));
        }
        // No two names are the same word.
        let names = DetectorKind::ALL.map(|kind| kind.name()).into_iter();
        let mut names: Vec<_> = names
            .chain(DetectorKind::ALIASES.map(|(alias, _)| alias))
            .map(letters)
            .collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn good_pixels_of_any_detector_have_no_colour() {
        // An autoencoder's squared errors: of good pixels a thousandth, the threshold 0.2.
        let errors = DetectorKind::SquaredErrorAutoencoder.heatmap(0.2);
        assert_eq!(errors.level(0.04), 0.0);
        assert!((errors.level(0.2) - 0.6).abs() < 1e-5);
        assert_eq!(errors.level(0.31), 1.0);
        // Deviations: what flat images leave is far below one.
        let deviations = DetectorKind::StudentTeacher.heatmap(0.01);
        assert_eq!(deviations.level(-0.8), 0.0);
        assert!(deviations.level(0.5) < 1.0);
        // A one-class SVM's decision values may all be negative, or 0.
        let svm = DetectorKind::OneClassSvm;
        let decisions = svm.heatmap(-4.0);
        assert_eq!((decisions.level(-7.5), decisions.level(-1.5)), (0.0, 1.0));
        assert!(svm.heatmap(0.0).level(0.25) < 1.0);
    }
}

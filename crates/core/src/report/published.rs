//! Published figures to compare with: AU-PRO up to a false-positive rate of 0.3 on the categories of MVTec AD.
//!
//! From Bergmann, Fauser, Sattlegger, Steger, "Uninformed Students", CVPR 2020, tables 1 to 3, on the
//! original images. The published zipper row repeats carpet's values for 1-NN, OC-SVM and K-Means.

/// The methods, in the order of [`Published::au_pro`].
pub const METHODS: [&str; 12] = [
    "p = 17",
    "p = 33",
    "p = 65",
    "multi-scale",
    "1-NN",
    "OC-SVM",
    "K-Means",
    "ℓ2-AE",
    "VAE",
    "SSIM-AE",
    "AnoGAN",
    "CNN dictionary",
];

/// The figures of one category.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// The category's folder name.
    pub category: &'static str,
    /// AU-PRO up to 0.3 of each of the [`METHODS`].
    pub au_pro: [f64; 12],
}

impl Published {
    /// The figures of a category by its folder's name; `None` if it is not one of MVTec AD's.
    pub fn of(category: &str) -> Option<&'static Self> {
        CATEGORIES.iter().find(|known| known.category == category)
    }

    /// The student–teacher method at the same scales: the method's name and its figure. `None` for scales
    /// that were not published.
    pub fn at_scales(&self, scales: &[usize]) -> Option<(&'static str, f64)> {
        let method = match scales {
            [17] => 0,
            [33] => 1,
            [65] => 2,
            [17, 33, 65] => 3,
            _ => return None,
        };
        Some((METHODS[method], self.au_pro[method]))
    }
}

impl Published {
    /// One of the compared systems, by the name that it has here; `None` for a detector that the paper does not compare.
    pub fn of_detector(&self, detector: &str) -> Option<f64> {
        let method = match detector {
            "1-nn" => "1-NN",
            "oc-svm" => "OC-SVM",
            "k-means" => "K-Means",
            "l2-ae" => "ℓ2-AE",
            "vae" => "VAE",
            "ssim-ae" => "SSIM-AE",
            "anogan" => "AnoGAN",
            "cnn-dictionary" => "CNN dictionary",
            _ => return None,
        };
        let place = METHODS.iter().position(|known| *known == method)?;
        Some(self.au_pro[place])
    }
}

const fn row(category: &'static str, au_pro: [f64; 12]) -> Published {
    Published { category, au_pro }
}

/// Every category.
#[rustfmt::skip]
pub const CATEGORIES: [Published; 15] = [
    row("carpet", [0.795, 0.893, 0.695, 0.879, 0.512, 0.355, 0.253, 0.456, 0.501, 0.647, 0.204, 0.469]),
    row("grid", [0.920, 0.949, 0.819, 0.952, 0.228, 0.125, 0.107, 0.582, 0.224, 0.849, 0.226, 0.183]),
    row("leather", [0.935, 0.956, 0.819, 0.945, 0.446, 0.306, 0.308, 0.819, 0.635, 0.561, 0.378, 0.641]),
    row("tile", [0.936, 0.950, 0.912, 0.946, 0.822, 0.722, 0.779, 0.897, 0.870, 0.175, 0.177, 0.797]),
    row("wood", [0.943, 0.929, 0.725, 0.911, 0.502, 0.336, 0.411, 0.727, 0.628, 0.605, 0.386, 0.621]),
    row("bottle", [0.814, 0.890, 0.918, 0.931, 0.898, 0.850, 0.495, 0.910, 0.897, 0.834, 0.620, 0.742]),
    row("cable", [0.671, 0.764, 0.865, 0.818, 0.806, 0.431, 0.513, 0.825, 0.654, 0.478, 0.383, 0.558]),
    row("capsule", [0.935, 0.963, 0.916, 0.968, 0.631, 0.554, 0.387, 0.862, 0.526, 0.860, 0.306, 0.306]),
    row("hazelnut", [0.971, 0.965, 0.937, 0.965, 0.861, 0.616, 0.698, 0.917, 0.878, 0.916, 0.698, 0.844]),
    row("metal_nut", [0.891, 0.928, 0.895, 0.942, 0.705, 0.319, 0.351, 0.830, 0.576, 0.603, 0.320, 0.358]),
    row("pill", [0.931, 0.959, 0.935, 0.961, 0.725, 0.544, 0.514, 0.893, 0.769, 0.830, 0.776, 0.460]),
    row("screw", [0.915, 0.937, 0.928, 0.942, 0.604, 0.644, 0.550, 0.754, 0.559, 0.887, 0.466, 0.277]),
    row("toothbrush", [0.946, 0.944, 0.863, 0.933, 0.675, 0.538, 0.337, 0.822, 0.693, 0.784, 0.749, 0.151]),
    row("transistor", [0.540, 0.611, 0.701, 0.666, 0.680, 0.496, 0.399, 0.728, 0.626, 0.725, 0.549, 0.628]),
    row("zipper", [0.848, 0.942, 0.933, 0.951, 0.512, 0.355, 0.253, 0.839, 0.549, 0.665, 0.467, 0.703]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_means_come_out() {
        // As published; the row of p = 33 averages .905, AnoGAN's .447 (both stand as .900 and .443).
        let means = [
            0.866, 0.905, 0.857, 0.914, 0.640, 0.479, 0.423, 0.790, 0.639, 0.694, 0.447, 0.515,
        ];
        for (method, &mean) in means.iter().enumerate() {
            let sum: f64 = CATEGORIES.iter().map(|row| row.au_pro[method]).sum();
            assert!(
                (sum / 15.0 - mean).abs() < 0.001,
                "{}: {}",
                METHODS[method],
                sum / 15.0
            );
        }
    }

    #[test]
    fn a_category_is_found_by_its_folder() {
        let nut = Published::of("metal_nut").unwrap();
        assert_eq!(nut.at_scales(&[33]), Some(("p = 33", 0.928)));
        assert_eq!(nut.at_scales(&[17, 33, 65]), Some(("multi-scale", 0.942)));
        assert_eq!(nut.at_scales(&[17, 33]), None);
        assert!(Published::of("washer").is_none());
    }
}

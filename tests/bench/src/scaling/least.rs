//! Least squares, small: a handful of rows and unknowns.

/// Coefficients that bring `rows * coefficients` closest to `values`, each difference weighed by
/// `weights`; `None` when the rows do not tell the unknowns apart.
pub(super) fn squares(rows: &[Vec<f64>], values: &[f64], weights: &[f64]) -> Option<Vec<f64>> {
    let unknowns = rows.first()?.len();
    // The normal equations, with the right-hand side as the last column.
    let mut equations = vec![vec![0.0; unknowns + 1]; unknowns];
    for ((row, value), weight) in rows.iter().zip(values).zip(weights) {
        for (i, equation) in equations.iter_mut().enumerate() {
            for (entry, factor) in equation.iter_mut().zip(row.iter().chain([value])) {
                *entry += weight * row[i] * factor;
            }
        }
    }
    solve(equations)
}

/// Gauss and Jordan, the largest pivot first.
fn solve(mut equations: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let unknowns = equations.len();
    for column in 0..unknowns {
        let largest = (column..unknowns)
            .max_by(|a, b| equations[*a][column].abs().total_cmp(&equations[*b][column].abs()))?;
        equations.swap(column, largest);
        let pivot = equations[column].clone();
        if pivot[column].abs() < 1e-12 {
            return None;
        }
        for (index, equation) in equations.iter_mut().enumerate() {
            if index != column {
                let factor = equation[column] / pivot[column];
                for (entry, above) in equation.iter_mut().zip(&pivot) {
                    *entry -= factor * above;
                }
            }
        }
    }
    Some((0..unknowns).map(|i| equations[i][unknowns] / equations[i][i]).collect())
}

/// The same with no coefficient below zero, as nothing costs less than nothing: the best of all
/// choices of unknowns that are not zero.
pub(super) fn non_negative(rows: &[Vec<f64>], values: &[f64], weights: &[f64]) -> Vec<f64> {
    let unknowns = rows.first().map_or(0, Vec::len);
    let mut best = (f64::INFINITY, vec![0.0; unknowns]);
    for choice in 0..1_u32 << unknowns {
        let is_chosen = |index: &usize| choice & (1 << index) != 0;
        let chosen: Vec<usize> = (0..unknowns).filter(is_chosen).collect();
        let part: Vec<Vec<f64>> =
            rows.iter().map(|row| chosen.iter().map(|&index| row[index]).collect()).collect();
        let found =
            if chosen.is_empty() { Some(Vec::new()) } else { squares(&part, values, weights) };
        let Some(found) = found.filter(|found| found.iter().all(|value| *value >= 0.0)) else {
            continue;
        };
        let mut coefficients = vec![0.0; unknowns];
        for (&index, value) in chosen.iter().zip(found) {
            coefficients[index] = value;
        }
        let error = error(rows, values, weights, &coefficients);
        if error < best.0 {
            best = (error, coefficients);
        }
    }
    best.1
}

fn error(rows: &[Vec<f64>], values: &[f64], weights: &[f64], coefficients: &[f64]) -> f64 {
    let each = rows.iter().zip(values).zip(weights).map(|((row, value), weight)| {
        let estimate: f64 = row.iter().zip(coefficients).map(|(factor, c)| factor * c).sum();
        weight * (value - estimate).powi(2)
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONES: [f64; 4] = [1.0; 4];

    fn close(found: &[f64], expected: &[f64]) -> bool {
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn finds_what_the_values_were_made_of() {
        let rows = [[1.0, 0.5], [1.0, 0.1], [1.0, 0.02], [1.0, 0.0]].map(Vec::from);
        let values: Vec<f64> = rows.iter().map(|row| 3.0 * row[0] + 40.0 * row[1]).collect();
        assert!(close(&squares(&rows, &values, &ONES).unwrap(), &[3.0, 40.0]));
        assert!(close(&non_negative(&rows, &values, &ONES), &[3.0, 40.0]));
    }

    #[test]
    fn nothing_costs_less_than_nothing() {
        let rows = [[1.0, 1.0], [1.0, 2.0], [1.0, 3.0], [1.0, 4.0]].map(Vec::from);
        // Best without a bound: 10 - 2 x.
        let values = [8.0, 6.0, 4.0, 2.0];
        assert!(close(&squares(&rows, &values, &ONES).unwrap(), &[10.0, -2.0]));
        assert!(close(&non_negative(&rows, &values, &ONES), &[5.0, 0.0]));
    }

    #[test]
    fn unknowns_that_always_go_together_cannot_be_told_apart() {
        let rows = [[1.0, 2.0], [2.0, 4.0]].map(Vec::from);
        assert!(squares(&rows, &[1.0, 2.0], &ONES).is_none());
        // One of them explains all.
        let found = non_negative(&rows, &[1.0, 2.0], &ONES);
        assert!((found[0] + 2.0 * found[1] - 1.0).abs() < 1e-6);
    }
}

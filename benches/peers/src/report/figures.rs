//! Medians, spreads, and who was best.

use resay_measure::median;

use crate::load::Sample;
use crate::peer::{Family, Peer};
use crate::results::{Cell, Pass, Results};
use crate::workload::Workload;

/// What the rounds come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) median: f64,
    /// Half the distance between the quartiles, as a part of the median: up or down by so much means nothing. One round
    /// does not tell: not a number.
    pub(super) noise: f64,
}

impl Figure {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Figure> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let median = median(&values)?;
        let quarter = values.len() / 4;
        let noise =
            if last == 0 { f64::NAN } else { (values[last - quarter] - values[quarter]) / 2.0 / median };
        Some(Figure { median, noise })
    }
}

/// A ratio, and how much of it may be noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub(super) value: f64,
    pub(super) noise: f64,
}

impl Ratio {
    pub(super) fn of(figure: Figure, to: Figure) -> Ratio {
        let value = figure.median / to.median;
        // Independent of each other, both in parts of one.
        Ratio { value, noise: value * figure.noise.hypot(to.noise) }
    }
}

impl Cell {
    pub(super) fn figure(&self, value: fn(&Sample) -> f64) -> Option<Figure> {
        Figure::of(self.samples.iter().map(value).collect())
    }

    pub(super) fn cost(&self) -> Option<Figure> {
        self.figure(|sample| sample.cpu_us)
    }
}

impl Results {
    pub(super) fn cell(&self, peer: &Peer, workload: &Workload, pass: Pass) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            cell.peer.name == peer.name && cell.workload.name == workload.name && cell.pass == pass
        })
    }

    /// All of one workload and pass that were measured, in the order of the list.
    pub(super) fn cells_of(&self, workload: &Workload, pass: Pass) -> impl Iterator<Item = &Cell> {
        let name = workload.name;
        self.cells
            .iter()
            .filter(move |cell| cell.workload.name == name && cell.pass == pass && !cell.samples.is_empty())
    }

    /// The workloads that were measured, in the order of the list.
    pub(super) fn workloads(&self) -> impl Iterator<Item = &'static Workload> {
        Workload::ALL
            .iter()
            .filter(|workload| self.cells.iter().any(|cell| cell.workload.name == workload.name))
    }

    /// The one of a family that costs least.
    pub(super) fn best(&self, workload: &Workload, family: Family) -> Option<(&'static Peer, Figure)> {
        self.cells_of(workload, Pass::Cost)
            .filter(|cell| cell.peer.family == family && cell.failure.is_none())
            .filter_map(|cell| Some((cell.peer, cell.cost()?)))
            .min_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
    }

    /// How far apart the rounds are, all in all: the median of all noises.
    pub(super) fn noise(&self) -> Option<Figure> {
        Figure::of(
            self.cells
                .iter()
                .filter_map(Cell::cost)
                .map(|figure| figure.noise)
                .filter(|noise| !noise.is_nan())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        let figure = Figure::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert!((figure.median - 2.0).abs() < 1e-9 && (figure.noise - 0.5).abs() < 1e-9);
        let figure = Figure::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap();
        assert!((figure.median - 2.5).abs() < 1e-9);
        // One round that went wrong is not what five show.
        let figure = Figure::of(vec![10.0, 10.0, 10.0, 11.0, 90.0]).unwrap();
        assert!((figure.median - 10.0).abs() < 1e-9 && figure.noise < 0.06);
        assert!(Figure::of(vec![1.0]).unwrap().noise.is_nan());
        assert_eq!(Figure::of(Vec::new()), None);
    }

    #[test]
    fn a_ratio_is_as_noisy_as_both() {
        let figure = |median, noise| Figure { median, noise };
        let ratio = Ratio::of(figure(3.0, 0.03), figure(2.0, 0.04));
        assert!((ratio.value - 1.5).abs() < 1e-9 && (ratio.noise - 0.075).abs() < 1e-9);
    }
}

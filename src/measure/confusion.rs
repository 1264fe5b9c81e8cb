//! What was planned against what was observed: a confusion matrix, and Cohen's kappa (1960) of it.

use std::fmt::Write;

use serde::Serialize;

/// Width of a label in the table, in characters.
const LABEL_WIDTH: usize = 14;

/// Rows by planned and by observed class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// `(planned, observed)`: how many rows.
    pub counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts rows whose classes are indices into `labels`; `planned` and `observed` are `(rows)`.
    pub fn new(labels: Vec<String>, planned: &[usize], observed: &[usize]) -> Self {
        let mut counts = vec![vec![0; labels.len()]; labels.len()];
        for (&planned, &observed) in planned.iter().zip(observed) {
            counts[planned][observed] += 1;
        }
        Self { labels, counts }
    }

    /// Cohen's kappa: agreement beyond what the margins alone would give, 1 at best. None without rows, or
    /// where the margins leave no room for disagreement.
    pub fn kappa(&self) -> Option<f64> {
        let planned: Vec<u64> = self.counts.iter().map(|row| row.iter().sum()).collect();
        let observed = |class: usize| self.counts.iter().map(|row| row[class]).sum::<u64>();
        let all = planned.iter().sum::<u64>() as f64;
        let agreed = (0..planned.len()).map(|class| self.counts[class][class]).sum::<u64>() as f64 / all;
        let by_chance: f64 =
            planned.iter().enumerate().map(|(class, &rows)| rows as f64 / all * (observed(class) as f64 / all)).sum();
        (all > 0.0 && by_chance < 1.0).then(|| (agreed - by_chance) / (1.0 - by_chance))
    }

    /// A table for people: a line for each planned class, a column for each observed one.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:LABEL_WIDTH$}", "planned \\ seen");
        let columns: Vec<String> = self.labels.iter().map(|label| shortened(label)).collect();
        let width = |label: &String| label.chars().count().max(6);
        // Writing to a text cannot fail.
        for label in &columns {
            let _ = write!(text, "  {label:>0$}", width(label));
        }
        text.push('\n');
        for (label, counts) in columns.iter().zip(&self.counts) {
            let _ = write!(text, "{label:LABEL_WIDTH$}");
            for (column, count) in columns.iter().zip(counts) {
                let _ = write!(text, "  {count:>0$}", width(column));
            }
            text.push('\n');
        }
        text
    }
}

/// At most [`LABEL_WIDTH`] characters on one line.
fn shortened(label: &str) -> String {
    let clean: Vec<char> = label.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= LABEL_WIDTH {
        return clean.into_iter().collect();
    }
    clean[..LABEL_WIDTH - 1].iter().copied().chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_planned_class() {
        let labels = ["formal", "a label that is far too long"].map(str::to_owned).to_vec();
        let confusion = Confusion::new(labels, &[0, 0, 1], &[0, 1, 1]);
        assert_eq!(
            confusion.table(),
            "planned \\ seen  formal  a label that …\n\
             formal               1               1\n\
             a label that …       0               1\n"
        );
    }

    #[test]
    fn kappa_needs_room_for_disagreement() {
        let labels = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(Confusion::new(labels(), &[], &[]).kappa(), None);
        assert_eq!(Confusion::new(labels(), &[0, 0], &[0, 0]).kappa(), None);
        assert_eq!(Confusion::new(labels(), &[0, 1], &[0, 1]).kappa(), Some(1.0));
        assert_eq!(Confusion::new(labels(), &[0, 1], &[1, 0]).kappa(), Some(-1.0));
    }
}

//! The rules of `[output]`: how scores become a verdict.

use toml::Spanned;

use super::{Rules, or_default};
use crate::config::card::raw::{By, Means, RawOutput, RawTarget};
use crate::config::card::{Activation, AnomalyBy, Distance, Features, Output, OutputKind, Target};
use crate::config::check::band;
use crate::config::document::{Field, one_of};

impl Rules<'_, '_> {
    pub(super) fn output(
        &mut self,
        raw: &RawOutput,
        at: usize,
        features: Option<&Features>,
    ) -> Option<Output> {
        let tensor = self.word(&raw.tensor, "tensor");
        let means = *raw.kind.value()?;
        let by = raw.by.value().copied();
        use Means::{Anomaly, Classification, MultiLabel, Regression};
        for (key, place, kinds) in [
            ("activation", raw.activation.at(), &[Classification, MultiLabel][..]),
            ("labels", raw.labels.at(), &[Classification, MultiLabel]),
            ("pass", raw.pass.at(), &[Classification, MultiLabel]),
            ("threshold", raw.threshold.at(), &[Classification, MultiLabel, Anomaly]),
            ("thresholds", raw.thresholds.at(), &[MultiLabel]),
            ("uncertain", raw.uncertain.at(), &[Classification, MultiLabel, Anomaly]),
            ("range", raw.range.at(), &[Regression]),
            ("target", raw.target.at(), &[Regression]),
            ("by", raw.by.at(), &[Anomaly]),
            ("of", raw.of.at(), &[Anomaly]),
            ("frames_ahead", raw.frames_ahead.at(), &[Anomaly]),
            ("distance", raw.distance.at(), &[Anomaly]),
            ("scale", raw.scale.at(), &[Anomaly]),
            ("smooth_frames", raw.smooth_frames.at(), &[Anomaly]),
        ] {
            let Some(place) = place else { continue };
            if !kinds.contains(&means) {
                let words: Vec<&str> = kinds.iter().map(means_word).collect();
                let message = format!(
                    "{key} belongs to an output of kind {}; here kind is {:?}",
                    one_of(&words),
                    means_word(&means)
                );
                self.complain(place, message);
            } else if means == Anomaly
                && by == Some(By::Score)
                && !["by", "threshold", "uncertain"].contains(&key)
            {
                self.complain(
                    place,
                    format!("{key} belongs to by = \"error\"; a score of the model's own stands as it is"),
                );
            }
        }
        let kind = match means {
            Classification | MultiLabel => self.labelled(raw, at, means),
            Regression => self.regression(raw, at),
            Anomaly => self.anomaly(raw, at, features),
        };
        let uncertain = band(&raw.uncertain, &raw.threshold, self.reader);
        Some(Output {
            tensor: tensor?,
            kind: kind?,
            threshold: match &raw.threshold {
                Field::Broken => return None,
                threshold => threshold.value().map(|threshold| *threshold as f32),
            },
            uncertain: uncertain?,
        })
    }

    fn labelled(&mut self, raw: &RawOutput, at: usize, means: Means) -> Option<OutputKind> {
        let because = format!("kind = {:?}", means_word(&means));
        let labels = match &raw.labels {
            Field::Given(labels) => Some(self.names(labels, "labels")),
            Field::Broken => None,
            Field::Absent | Field::Default(_) => {
                self.complain(at, format!("`labels` is missing in output; {because} needs one name a score"));
                None
            }
        };
        let least = if means == Means::Classification { 2 } else { 1 };
        if let (Some(labels), Some(place)) = (&labels, raw.labels.at())
            && labels.len() < least
        {
            let count = labels.len();
            let remedy =
                if least == 2 { "; for one score of its own use kind = \"multi_label\"" } else { "" };
            self.complain(place, format!("labels has {count}; {because} needs at least {least}{remedy}"));
        }
        let pass = match &raw.pass {
            Field::Given(pass) => {
                let names = self.names(pass, "pass");
                if let Some(labels) = &labels {
                    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                    for name in pass.get_ref() {
                        self.find(name, &labels, "label");
                    }
                }
                Some(names)
            }
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(Vec::new()),
        };
        let activation = or_default(&raw.activation, Activation::None);
        if means == Means::Classification && pass.as_ref().is_some_and(Vec::is_empty) {
            for (place, key) in [(raw.threshold.at(), "threshold"), (raw.uncertain.at(), "uncertain")] {
                if let Some(place) = place {
                    self.complain(
                        place,
                        format!(
                            "{key} decides nothing while `pass` names no label that is in order; \
                         add pass, or remove it"
                        ),
                    );
                }
            }
        }
        if matches!(activation, Some(Activation::Softmax | Activation::Sigmoid)) {
            let mut bounded: Vec<(f64, usize)> = Vec::new();
            bounded.extend(raw.threshold.given().map(|t| (*t.get_ref(), t.span().start)));
            for list in [&raw.thresholds, &raw.uncertain] {
                let list = list.given().map(Spanned::get_ref);
                bounded.extend(list.into_iter().flatten().map(|t| (*t.get_ref(), t.span().start)));
            }
            for (value, place) in bounded {
                if !(0.0..=1.0).contains(&value) {
                    self.complain(
                        place,
                        format!(
                            "{value} is no probability; after softmax or sigmoid scores lie from 0 \
                             to 1"
                        ),
                    );
                }
            }
        }
        if means == Means::Classification {
            return Some(OutputKind::Classification {
                labels: labels?,
                pass: pass?,
                activation: activation?,
            });
        }
        let thresholds = match &raw.thresholds {
            Field::Given(list) => {
                if let Some(labels) = &labels
                    && labels.len() != list.get_ref().len()
                {
                    let count = list.get_ref().len();
                    self.complain(
                        list.span().start,
                        format!(
                            "thresholds has {count} numbers for {} labels; expected one a label",
                            labels.len()
                        ),
                    );
                }
                Some(Some(list.get_ref().iter().map(|value| *value.get_ref() as f32).collect()))
            }
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(None),
        };
        if let (Some(_), Some(place)) = (raw.thresholds.at(), raw.threshold.at()) {
            self.complain(
                place,
                "threshold is never used beside thresholds, which has one for each label; keep one",
            );
        }
        Some(OutputKind::MultiLabel {
            labels: labels?,
            pass: pass?,
            activation: activation?,
            thresholds: thresholds?,
        })
    }

    fn regression(&mut self, raw: &RawOutput, at: usize) -> Option<OutputKind> {
        let list: &[Spanned<RawTarget>] = match &raw.target {
            Field::Given(list) if !list.get_ref().is_empty() => list.get_ref(),
            Field::Broken => return None,
            _ => {
                self.complain(at, "there is no [[output.target]]; kind = \"regression\" needs one a score");
                return None;
            }
        };
        let mut targets: Vec<Target> = Vec::new();
        let mut whole = true;
        for raw in list {
            let raw = raw.get_ref();
            let name = self.word(&raw.name, "name");
            if let Some(name) = &name {
                self.new_name(name, targets.iter().map(|target| target.name.as_str()), raw.name.at());
            }
            if let (Some(0.0), Some(at)) = (raw.scale.value(), raw.scale.at()) {
                self.complain(at, "scale is 0; every value would be the offset");
            }
            let target = (|| {
                Some(Target {
                    name: name?,
                    unit: raw.unit.value()?.clone(),
                    scale: *raw.scale.value()?,
                    offset: *raw.offset.value()?,
                })
            })();
            match target {
                Some(target) => targets.push(target),
                None => whole = false,
            }
        }
        let range = match &raw.range {
            Field::Broken => None,
            Field::Absent | Field::Default(_) => Some(None),
            Field::Given(list) => match list.get_ref().as_slice() {
                [low, high] if low.get_ref() <= high.get_ref() => {
                    Some(Some((*low.get_ref(), *high.get_ref())))
                }
                [low, high] => {
                    let message = format!(
                        "range is [{}, {}]; the lower end comes first",
                        low.get_ref(),
                        high.get_ref()
                    );
                    self.complain(list.span().start, message);
                    None
                }
                other => {
                    let message = format!("range has {} numbers; expected two: [low, high]", other.len());
                    self.complain(list.span().start, message);
                    None
                }
            },
        };
        whole.then_some(OutputKind::Regression { targets, range: range? })
    }

    fn anomaly(&mut self, raw: &RawOutput, at: usize, features: Option<&Features>) -> Option<OutputKind> {
        if self.wanted(&raw.by, at, "by", "kind = \"anomaly\"")? == By::Score {
            return Some(OutputKind::Anomaly { by: AnomalyBy::Score });
        }
        let known: Option<Vec<&str>> = match features {
            None => None,
            Some(Features::Window(window)) => {
                Some(window.channels.iter().map(|channel| channel.name.as_str()).collect())
            }
            Some(Features::Table(table)) => {
                let derived = table.derived.iter().map(|derived| derived.channel.name.as_str());
                Some(table.columns.iter().map(|column| column.name.as_str()).chain(derived).collect())
            }
            Some(Features::Image(_)) => {
                let at = raw.by.at().unwrap_or(at);
                self.complain(
                    at,
                    "by = \"error\" compares named values; for images the model must give \
                     the score itself: by = \"score\"",
                );
                None
            }
        };
        let of: Option<Vec<String>> = match &raw.of {
            Field::Given(list) if !list.get_ref().is_empty() => {
                if let Some(known) = &known {
                    for name in list.get_ref() {
                        self.find(name, known, "channel or column");
                    }
                }
                Some(self.names(list, "of"))
            }
            Field::Broken => None,
            _ => {
                let at = raw.of.at().unwrap_or(at);
                self.complain(
                    at,
                    "`of` is missing in output; by = \"error\" needs the names of the \
                     values that the model expects",
                );
                None
            }
        };
        let scale = or_default(&raw.scale, 1.0);
        if let (Some(scale), Some(at)) = (scale, raw.scale.at()) {
            self.divisor(scale, "scale", at);
        }
        Some(OutputKind::Anomaly {
            by: AnomalyBy::Error {
                of: of?,
                frames_ahead: usize::try_from(or_default(&raw.frames_ahead, 1)?).ok()?,
                distance: or_default(&raw.distance, Distance::MeanAbsolute)?,
                scale: scale?,
                smooth_frames: usize::try_from(or_default(&raw.smooth_frames, 1)?).ok()?,
            },
        })
    }
}

fn means_word(means: &Means) -> &'static str {
    match means {
        Means::Classification => "classification",
        Means::MultiLabel => "multi_label",
        Means::Regression => "regression",
        Means::Anomaly => "anomaly",
    }
}

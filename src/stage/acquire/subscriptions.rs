//! Which filters to subscribe to, so that a frame for several pipelines comes once.
//!
//! A broker may send a frame once for each filter that takes it (MQTT 3.1.1 §3.3.5), and then as
//! different frames, each with an answer and an id of its own. So what another filter covers is not
//! asked for. Filters that meet and do not cover each other (`a/+/c` beside `+/b/c`) are all needed:
//! what such a broker sends twice is answered twice.

use super::mqtt::Route;
use crate::config::{Qos, topic};

/// A filter in SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) filter: String,
    pub(super) qos: Qos,
    /// Whose frames come by it.
    pub(super) pipelines: Vec<String>,
}

/// What to ask the broker for.
#[derive(Debug)]
pub(super) struct Subscriptions {
    pub(super) asked: Vec<Subscription>,
    /// Filters of ours that the others take in.
    pub(super) covered: Vec<String>,
}

impl Subscriptions {
    /// As few as bring all frames.
    pub(super) fn fewest(routes: &[Route]) -> Self {
        Self::without_needless(routes, topic::covers)
    }

    /// Each filter.
    pub(super) fn each(routes: &[Route]) -> Self {
        Self::without_needless(routes, str::eq)
    }

    fn without_needless(routes: &[Route], covers: fn(&str, &str) -> bool) -> Self {
        let filters: Vec<String> = routes.iter().map(|route| route.filter.subscription()).collect();
        let takes = |wide: usize, narrow: usize| covers(&filters[wide], &filters[narrow]);
        // Of equal ones the first is asked for.
        let is_needed = |narrow: &usize| {
            (0..routes.len()).all(|wide| !takes(wide, *narrow) || (takes(*narrow, wide) && wide >= *narrow))
        };
        let asked = (0..routes.len()).filter(is_needed).map(|wide| {
            let served = || (0..routes.len()).filter(move |&at| takes(wide, at)).map(|at| &routes[at]);
            let at_least_once = served().any(|route| route.qos == Qos::AtLeastOnce);
            Subscription {
                filter: filters[wide].clone(),
                qos: if at_least_once { Qos::AtLeastOnce } else { Qos::AtMostOnce },
                pipelines: served().map(|route| route.name.clone()).collect(),
            }
        });
        let asked: Vec<Subscription> = asked.collect();
        let is_asked = |filter: &String| asked.iter().any(|asked| asked.filter == *filter);
        let covered = filters.iter().filter(|filter| !is_asked(filter)).cloned().collect();
        Self { asked, covered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Filter;

    fn routes(filters: &[(&str, Qos)]) -> Vec<Route> {
        let route = |(pipeline, &(filter, qos)): (usize, &(&str, Qos))| Route {
            pipeline,
            name: format!("p{pipeline}"),
            filter: Filter::parse(filter),
            qos,
            id_property: None,
            max_payload_bytes: 100,
            is_stateful: false,
        };
        filters.iter().enumerate().map(route).collect()
    }

    #[test]
    fn what_another_filter_takes_in_is_not_asked_for_and_its_quality_is() {
        let routes = routes(&[
            ("camera/left", Qos::AtLeastOnce),
            ("camera/{camera}", Qos::AtMostOnce),
            ("camera/+", Qos::AtMostOnce),
            ("scale", Qos::AtMostOnce),
        ]);
        let Subscriptions { asked, covered } = Subscriptions::fewest(&routes);
        let said: Vec<_> =
            asked.iter().map(|asked| (asked.filter.as_str(), asked.qos, asked.pipelines.join(" "))).collect();
        assert_eq!(
            said,
            [("camera/+", Qos::AtLeastOnce, "p0 p1 p2".into()), ("scale", Qos::AtMostOnce, "p3".into())]
        );
        assert_eq!(covered, ["camera/left"]);
        let Subscriptions { asked, covered } = Subscriptions::each(&routes);
        let filters: Vec<_> = asked.iter().map(|asked| asked.filter.as_str()).collect();
        assert_eq!((filters, covered.len()), (vec!["camera/left", "camera/+", "scale"], 0));
    }

    #[test]
    fn filters_that_only_meet_are_all_asked_for() {
        let routes = routes(&[("a/+/c", Qos::AtLeastOnce), ("+/b/c", Qos::AtLeastOnce)]);
        assert_eq!(Subscriptions::fewest(&routes).asked.len(), 2);
    }
}

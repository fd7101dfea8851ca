//! How each figure of a report is computed, in words.

use crate::report::Figures;

/// With fewer answers, the 99th percentile is one of the ten longest response times.
const SMALL_CROWD: u32 = 1_000;

/// What goes for every response time.
const RESPONSE_TIME: &str = "from the request to the whole answer; a lost answer counts with the time until it was \
                             given up";
/// What goes for every percentile of a replica's histogram.
const INTERPOLATED: &str = "from the histograms of all replicas, during the run; linear within a bucket, as by \
                            Prometheus's histogram_quantile";

/// Whether a percentile says little.
pub(crate) fn is_small_crowd(figures: &Figures) -> bool {
    figures.requests < SMALL_CROWD
}

/// How the P99 is computed.
pub(crate) fn p99_rule(figures: &Figures) -> String {
    let requests = figures.requests;
    let rank = (u64::from(requests) * 99).div_ceil(100);
    let rule = format!(
        "the nearest rank: number {rank} of {requests} response times, shortest first, to 0.1 %"
    );
    if !is_small_crowd(figures) {
        return rule;
    }
    let longer = u64::from(requests) - rank;
    format!(
        "{rule}. Only {longer} took longer, and other tools have other rules: judge fewer than {SMALL_CROWD} answers by \
         the longest, the last answer and the plots"
    )
}

/// How the figure of a row is computed; absent where its name says it.
#[must_use]
pub fn rule(name: &str, figures: &Figures) -> Option<String> {
    let rule = match name {
        "sold" => "units of orders that were answered 201, or whose answer was lost",
        "oversold" => {
            "units beyond the stock at the start, by the answers or by the database, whichever has more"
        }
        "success rate" => "users with an order, of all users",
        "users that came" => "users who started; of a crowd at once, all of the scenario",
        "units back from earlier orders" => {
            "of orders of before the run, whose hold ended during it; less units of those that were paid late. Those that \
             came back may have come too late for anybody"
        }
        "units back from orders that expired" => {
            "of orders that were answered as pending, and that nobody paid in time. They may have come too late for anybody"
        }
        "users without a final answer" => {
            "neither an order nor a final refusal, after all tries or at the deadline"
        }
        "stock in the database" | "units of orders in the database" | "orders in the database" => {
            "read after the run, compared with the answers"
        }
        "answers and orders that disagree" => {
            "an answer without its order, an order without an answer, or another buyer or quantity"
        }
        "database" => "read after the run",
        "load pods" => "processes that played users",
        "load pods with a result" => {
            "a pod whose users' answers are unknown leaves nothing to judge"
        }
        "started within" => "from the first pod's order to start until the last one had started",
        "units restocked, by the database" => {
            "units that administrators added, compared with their answers"
        }
        "users overtaken" => "users without an order although one who asked later has one",
        "tickets not seen" => {
            "users whose ticket no majority of the nodes showed before the next user asked"
        }
        "Redis nodes stopped" => "nodes that were restarted during the run, or are away",
        "new tokens refused" => "new access tokens that a replica refused",
        "longest pause" => "the longest time without a purchase while users came",
        "requests" => "all attempts of all users, answered or not",
        "requests/s" => "answers, by the time from the start of the first user to the last answer",
        "P50" => {
            return Some(format!(
                "the nearest rank: half of the response times are at most this long; {RESPONSE_TIME}"
            ));
        }
        "average" => "the mean of all response times",
        "P99" => return Some(p99_rule(figures)),
        "max" => return Some(format!("the longest response time; {RESPONSE_TIME}")),
        "name lookup" => {
            "the names of SALE_URL, once before the first user started; the slowest of all pods"
        }
        "TCP connect P50" | "TCP connect max" => {
            "the connections of users, opened within the run; part of the response time"
        }
        "TLS handshake P50" | "TLS handshake max" => {
            "from the TCP connection on, none resumed; part of the response time"
        }
        "answer alone P50" | "answer alone max" => {
            "from the open connection to the whole answer: the response time without connecting and without waiting for a \
             connection"
        }
        "last answer" => "from the start of the first user to the last answer",
        "lock wait P50 (interpolated)" | "lock wait P99 (interpolated)" => INTERPOLATED,
        "quorum success" => {
            "acquisitions of the lock that reached a quorum, of all, by the replicas' metrics"
        }
        _ => return of_family(name),
    };
    Some(rule.to_owned())
}

/// Rules of rows whose names have a code or a node.
fn of_family(name: &str) -> Option<String> {
    let rule = if name.starts_with("failed: ") {
        "users without an order, by the code of their last answer"
    } else if name.starts_with("new tokens: ") {
        "new access tokens by the result of their first use"
    } else if name.starts_with("orders with and without ") || name.ends_with(" in the database") {
        "read after the run, compared with the answers"
    } else if name.starts_with("stock on ") || name.starts_with("stock of ") {
        "GET stock:<product> on this node after the run, compared with the answers"
    } else if name.starts_with("answers ") {
        "all attempts of all users, by code"
    } else if name.starts_with("lock attempt on ") && name.ends_with("P99") {
        INTERPOLATED
    } else if name.starts_with("lock attempt on ") {
        "the mean, from the histograms of all replicas, during the run"
    } else {
        return None;
    };
    Some(rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(requests: u32) -> String {
        p99_rule(&Figures { requests, ..Figures::default() })
    }

    #[test]
    fn a_small_crowd_is_told_what_its_p99_is() {
        assert!(of(300).starts_with("the nearest rank: number 297 of 300"), "{}", of(300));
        assert!(of(300).contains("Only 3 took longer"), "{}", of(300));
        assert!(of(301).contains("number 298 of 301"), "{}", of(301));
        assert!(!of(1_000).contains("took longer"), "{}", of(1_000));
    }
}

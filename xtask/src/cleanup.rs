//! The end of a run: every step of its clean-up is tried, and their errors come after the run's own.

use anyhow::{Error, Result, anyhow};

/// The results of steps that do not depend on each other, as one: its error has the errors of all.
pub fn all(steps: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let errors = steps.into_iter().filter_map(Result::err);
    errors.reduce(|first, second| both(&first, &second)).map_or(Ok(()), Err)
}

/// The outcome of a run after its clean-up. An error of the run is never hidden by one of the clean-up.
pub fn after<T>(outcome: Result<T>, clean_up: Result<()>) -> Result<T> {
    let Err(left) = clean_up else { return outcome };
    let left = left.context("cannot clean up");
    Err(match outcome {
        Ok(_) => left,
        Err(error) => both(&error, &left),
    })
}

fn both(first: &Error, second: &Error) -> Error {
    anyhow!("{first:#}\n{second:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &'static str) -> Result<()> {
        Err(anyhow!(text))
    }

    #[test]
    fn an_error_of_the_clean_up_comes_after_that_of_the_run() {
        let said = |outcome, clean_up| format!("{:#}", after(outcome, clean_up).unwrap_err());
        assert_eq!(said(failed("no sale"), failed("no helm")), "no sale\ncannot clean up: no helm");
        assert_eq!(said(failed("no sale"), Ok(())), "no sale");
        assert_eq!(said(Ok(()), failed("no helm")), "cannot clean up: no helm");
        assert!(after(Ok(true), Ok(())).unwrap());
    }

    #[test]
    fn the_errors_of_all_steps_are_told() {
        let error = all([failed("first"), Ok(()), failed("third")]).unwrap_err();
        assert_eq!(error.to_string(), "first\nthird");
        assert!(all([Ok(()), Ok(())]).is_ok());
    }
}

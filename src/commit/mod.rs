//! Stages the result and moves it in place.

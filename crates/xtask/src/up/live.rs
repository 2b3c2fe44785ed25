//! The live part: figures as they come, words as they are typed.

use std::io::{BufRead, BufReader, stdin};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::Stop;
use super::figures::Figures;
use super::stack::{Part, Stack};
use super::traffic::Traffic;
use crate::Result;
use crate::screen::{entered, live, say};

const WORDS: &str = "worker, redis, mysql, api   kill it with -9 under load, and start it again
traffic                     switch load on or off (the month, again and again)
help                        this list
Ctrl-C                      end everything; the data stay";

const STEP: Duration = Duration::from_millis(100);
/// Load that began this long ago has requests under way on every connection.
const LOAD_BUILDS_UP: Duration = Duration::from_millis(1_500);
/// Figures come every second; older ones are not passed off as current.
const FIGURES_STALE: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_secs(1);

enum Event {
    Typed(String),
    Figures(String),
    FiguresEnded,
}

pub(super) struct Console {
    events: Receiver<Event>,
    sender: Sender<Event>,
    stop: Stop,
    figures: Command,
    /// Prints the figures; none while it is to be started again.
    watch: Option<Child>,
    watch_ended: Instant,
    last: Option<Figures>,
    last_at: Instant,
    traffic: Traffic,
}

impl Console {
    pub(super) fn open(mut figures: Command, stop: Stop) -> Result<Self> {
        // Its own group: Ctrl-C is ours to handle. Its pipe ends with us, and it with its pipe.
        figures.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let (sender, events) = mpsc::channel();
        let typed = sender.clone();
        thread::spawn(move || {
            for line in stdin().lines().map_while(std::result::Result::ok) {
                // Fails only when we are ending.
                let _ = typed.send(Event::Typed(line));
            }
        });
        let now = Instant::now();
        let mut console =
            Self { events, sender, stop, figures, watch: None, watch_ended: now, last: None, last_at: now, traffic: Traffic::off() };
        console.start_watch()?;
        Ok(console)
    }

    /// Until Ctrl-C, or until something cannot be kept running; leaves the last figures on the screen.
    pub(super) fn obey(&mut self, stack: &mut Stack) -> Result<()> {
        let ended = loop {
            let step = self.step(stack).and_then(|typed| match typed {
                Some(word) => self.word(word.trim(), stack),
                None => Ok(()),
            });
            if step.is_err() {
                break step;
            }
        };
        live("");
        if let Some(figures) = &self.last {
            say(figures.line());
        }
        ended
    }

    /// A tenth of a second of it: draws figures that came, looks after what should run, and answers
    /// what was typed.
    pub(super) fn step(&mut self, stack: &mut Stack) -> Result<Option<String>> {
        self.stop.check()?;
        stack.look_after(&Part::ALL, &self.stop)?;
        self.traffic.look_after(stack)?;
        if self.watch.is_none() && self.watch_ended.elapsed() > RETRY {
            self.start_watch()?;
        }
        let mut typed = None;
        match self.events.recv_timeout(STEP) {
            Ok(Event::Typed(word)) => {
                entered();
                typed = Some(word);
            }
            Ok(Event::Figures(line)) => self.show(&line),
            Ok(Event::FiguresEnded) => self.end_watch(),
            // We hold a sender ourselves, so this is the time being up.
            Err(_) => self.show_stale(),
        }
        Ok(typed)
    }

    /// A step of which nothing can be typed, because of what is going on.
    pub(super) fn wait(&mut self, stack: &mut Stack, because: &str) -> Result<()> {
        if self.step(stack)?.is_some() {
            say(format!("not yet: {because}"));
        }
        Ok(())
    }

    fn word(&mut self, word: &str, stack: &mut Stack) -> Result<()> {
        if let Some(part) = Part::ALL.into_iter().find(|part| part.name() == word) {
            return self.kill(part, stack);
        }
        match word {
            "" => {}
            "traffic" => {
                let on = !self.traffic.is_on();
                self.traffic.switch(on, stack)?;
                say(if on { "traffic is on" } else { "traffic is off" });
            }
            "help" => say(WORDS),
            other => say(format!("no such word: {other}\n{WORDS}")),
        }
        Ok(())
    }

    fn kill(&mut self, part: Part, stack: &mut Stack) -> Result<()> {
        if !self.traffic.is_on() {
            say("traffic was off: switched on, so that it is under load (`traffic` ends it)");
            self.traffic.switch(true, stack)?;
            let start = Instant::now();
            while start.elapsed() < LOAD_BUILDS_UP {
                self.step(stack)?;
            }
        }
        let pid = stack.kill(part)?;
        let start = Instant::now();
        say(format!("{} (process {pid}) killed with -9 under load", part.name()));
        stack.start_again(part, &self.stop)?;
        say(format!("{} is back after {:.2} s", part.name(), start.elapsed().as_secs_f64()));
        Ok(())
    }

    fn show(&mut self, line: &str) {
        // A line that is no object of figures says that a server is away: the next one may do.
        if let Ok(figures) = Figures::parse(line) {
            live(figures.line());
            self.last = Some(figures);
            self.last_at = Instant::now();
        }
    }

    fn show_stale(&self) {
        let age = self.last_at.elapsed();
        if let Some(figures) = self.last.as_ref().filter(|_| age > FIGURES_STALE) {
            live(format!("({:.0} s ago) {}", age.as_secs_f64(), figures.line()));
        }
    }

    fn start_watch(&mut self) -> Result<()> {
        let mut watch = self.figures.spawn()?;
        let lines = watch.stdout.take();
        let sender = self.sender.clone();
        thread::spawn(move || {
            let lines = lines.into_iter().flat_map(|out| BufReader::new(out).lines());
            for line in lines.map_while(std::result::Result::ok) {
                let _ = sender.send(Event::Figures(line));
            }
            let _ = sender.send(Event::FiguresEnded);
        });
        self.watch = Some(watch);
        Ok(())
    }

    fn end_watch(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            // Fails if it has ended, which is what we want.
            let _ = watch.kill();
            let _ = watch.wait();
        }
        self.watch_ended = Instant::now();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.end_watch();
    }
}

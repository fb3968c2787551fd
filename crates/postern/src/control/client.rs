//! The commands' end of the control socket: one connection, blocking, with a deadline.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Answer, Ask, Frame, Request, Response, VERSION, refuse_long_path, socket_path};
use crate::exit::{Code, Failure};

/// A connection to a running server.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the server of a data directory.
    ///
    /// # Errors
    /// [`Code::Unavailable`] with the cure when nobody listens there.
    pub(crate) fn connect(data: &Path) -> Result<Self, Failure> {
        refuse_long_path(data)?;
        let path = socket_path(data);
        let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let what = format!("no server is running with the data directory {}", data.display());
                let cure =
                    "start one with `postern serve`, or name its directory with --data DIR or its file with -c FILE";
                Failure::new(Code::Unavailable, what).cure(cure)
            }
            _ => Failure::io(Code::Unavailable, path.display(), &error)
                .cure("the socket belongs to the user that runs the server: run the command as that user"),
        })?;
        let deadline =
            stream.set_read_timeout(Some(ANSWER_WAIT)).and_then(|()| stream.set_write_timeout(Some(ANSWER_WAIT)));
        deadline.map_err(|error| Failure::io(Code::Os, path.display(), &error))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// What the server answered, or [`Code::Io`] when it did not.
    pub(crate) fn ask(&mut self, ask: Ask) -> Result<Value, Failure> {
        let mut line = serde_json::to_string(&Request { v: VERSION, ask }).unwrap_or_default();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).map_err(|error| lost(&error))?;
        self.answer()
    }

    /// Hands items in; the answer says what became of each.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(crate) fn put(&mut self, frames: &[(Frame, Vec<u8>)]) -> Result<Value, Failure> {
        let request = Request { v: VERSION, ask: Ask::BufferPut { frames: frames.len() } };
        let mut out = BufWriter::new(self.stream.get_mut());
        let mut write = || {
            writeln!(out, "{}", serde_json::to_string(&request)?)?;
            for (frame, body) in frames {
                writeln!(out, "{}", serde_json::to_string(frame)?)?;
                out.write_all(body)?;
            }
            out.flush()
        };
        write().map_err(|error| lost(&error))?;
        drop(out);
        self.answer()
    }

    fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(|error| lost(&error))?;
        if line.is_empty() {
            return Err(lost(&io::ErrorKind::UnexpectedEof.into()));
        }
        let response: Response = serde_json::from_str(&line).map_err(|error| {
            let what = format!("the server's answer cannot be read: {error}");
            Failure::new(Code::Software, what).cure("it may be of another release: use its own `postern` command")
        })?;
        match response.answer {
            Answer::Ok(value) => Ok(value),
            Answer::Error { code, what, cure } => Err(Failure { code: code_of(code), what, cure }),
        }
    }

    /// Copies the octets that follow an answer.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub(crate) fn copy_octets(&mut self, octets: u64, out: &mut impl Write) -> Result<(), Failure> {
        let copied = io::copy(&mut (&mut self.stream).take(octets), out).map_err(|error| lost(&error))?;
        if copied == octets { Ok(()) } else { Err(lost(&io::ErrorKind::UnexpectedEof.into())) }
    }
}

/// Whether a server answers in this data directory; then its process id.
pub(crate) fn running(data: &Path) -> Option<u64> {
    let status = Client::connect(data).ok()?.ask(Ask::Status).ok();
    Some(status.and_then(|status| status["pid"].as_u64()).unwrap_or(0))
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(Code::Io, format!("the server did not answer: {error}")).cure("is it stopping? see its log")
}

fn code_of(code: u8) -> Code {
    const CODES: [Code; 10] = [
        Code::Failed,
        Code::Usage,
        Code::Data,
        Code::Unavailable,
        Code::Software,
        Code::Os,
        Code::CannotCreate,
        Code::Io,
        Code::NoPermission,
        Code::Config,
    ];
    CODES.into_iter().find(|known| *known as u8 == code).unwrap_or(Code::Failed)
}

/// The slowest answer is a page of the queue while the disk is busy.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

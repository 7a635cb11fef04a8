//! An HTTP/1.1 server that serves objects with ranges, and does to each request what a script tells it to.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// What is done to one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    Status(u16, &'static str),
    /// Close the connection after so many bytes of the body.
    CutAfter(u64),
    /// Send nothing more after so many bytes of the body, and keep the connection.
    StallAfter(u64),
    /// Flip a bit of the object's byte at this offset, if it is sent.
    Flip(u64),
    /// Answer 200 with the whole object.
    IgnoreRange,
    /// Answer another range than asked for, and say so.
    OtherRange,
    /// Announce one byte more than is sent.
    WrongLength,
    /// Say that the object has another size.
    OtherTotal,
    /// Send so many bytes a second.
    Slow(u64),
}

/// One request as a script sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) range: Option<(u64, u64)>,
    /// It asks what there is, and not for bytes.
    pub(crate) is_head: bool,
    /// How many requests there were before.
    pub(crate) number: u64,
    pub(crate) connection: u64,
}

type Script = Box<dyn Fn(&Seen) -> Option<Fault> + Send + Sync>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    objects: BTreeMap<String, Vec<u8>>,
    e_tags: Mutex<BTreeMap<String, String>>,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    sent: AtomicU64,
}

impl Server {
    pub(crate) async fn start(objects: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            objects,
            e_tags: Mutex::default(),
            script: Mutex::new(Box::new(|_| None)),
            seen: Mutex::default(),
            sent: AtomicU64::new(0),
        });
        let for_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connection = 0;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connection += 1;
                let shared = Arc::clone(&for_task);
                // A client that goes away is no concern of the server's.
                tokio::spawn(async move { shared.serve(stream, connection).await.ok() });
            }
        });
        Self { address, shared, task }
    }

    pub(crate) fn script(&self, script: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Gives objects ETags, which are listed and sent with them.
    pub(crate) fn set_e_tags(&self, e_tags: BTreeMap<String, String>) {
        *self.shared.e_tags.lock().unwrap() = e_tags;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Bytes of bodies sent.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream, connection: u64) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        loop {
            let Some(seen) = self.read_head(&mut stream, connection).await? else { return Ok(()) };
            let fault = (self.script.lock().unwrap())(&seen);
            if !self.answer(stream.get_mut(), &seen, fault).await? {
                return Ok(());
            }
        }
    }

    async fn read_head(
        &self,
        stream: &mut BufReader<TcpStream>,
        connection: u64,
    ) -> io::Result<Option<Seen>> {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_head = line.starts_with("HEAD ");
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut range = None;
        loop {
            let mut header = String::new();
            stream.read_line(&mut header).await?;
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
                let (first, last) = value.trim().split_once('-').unwrap();
                range = Some((first.parse().unwrap(), last.parse::<u64>().unwrap() + 1));
            }
        }
        let mut all = self.seen.lock().unwrap();
        let seen = Seen {
            path: decode(path.trim_start_matches('/')),
            query: query.to_owned(),
            range,
            is_head,
            number: all.len() as u64,
            connection,
        };
        all.push(seen.clone());
        Ok(Some(seen))
    }

    /// False where the connection ends.
    async fn answer(&self, stream: &mut TcpStream, seen: &Seen, fault: Option<Fault>) -> io::Result<bool> {
        if let Some(prefix) = seen.lists() {
            let body = self.list(&seen.path, &prefix);
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await?;
            return Ok(true);
        }
        let fault = match (fault, self.objects.get(&seen.path)) {
            (Some(fault), _) => Some(fault),
            (None, None) => Some(Fault::Status(404, "<Error><Code>NoSuchKey</Code></Error>")),
            (None, Some(_)) => None,
        };
        if let Some(Fault::Status(code, body)) = fault {
            let body = if seen.is_head { "" } else { body };
            let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(head.as_bytes()).await?;
            return Ok(true);
        }
        let object = &self.objects[&seen.path];
        let size = object.len() as u64;
        let e_tag = self.e_tags.lock().unwrap().get(&seen.path).map(|e_tag| format!("ETag: {e_tag}\r\n"));
        let e_tag = e_tag.unwrap_or_default();
        if seen.is_head {
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {size}\r\n{e_tag}\r\n");
            stream.write_all(head.as_bytes()).await?;
            return Ok(true);
        }
        let range = if fault == Some(Fault::IgnoreRange) { None } else { seen.range };
        let (mut begin, mut end) = range.map_or((0, size), |(begin, end)| (begin, end.min(size)));
        if fault == Some(Fault::OtherRange) && range.is_some() {
            (begin, end) = (begin.saturating_sub(1), end.saturating_sub(1));
        }
        let mut body = object[begin as usize..end as usize].to_vec();
        if let Some(Fault::Flip(at)) = fault
            && (begin..end).contains(&at)
        {
            body[(at - begin) as usize] ^= 0x10;
        }
        let total = if fault == Some(Fault::OtherTotal) { size + 1 } else { size };
        let length = body.len() as u64 + u64::from(fault == Some(Fault::WrongLength));
        let head = match range {
            Some(_) => format!(
                "HTTP/1.1 206 X\r\nContent-Length: {length}\r\n{e_tag}Content-Range: bytes {begin}-{}/{total}\r\n\r\n",
                end - 1
            ),
            None => format!("HTTP/1.1 200 X\r\nContent-Length: {length}\r\n{e_tag}\r\n"),
        };
        stream.write_all(head.as_bytes()).await?;
        let sent = match fault {
            Some(Fault::CutAfter(bytes) | Fault::StallAfter(bytes)) => body.len().min(bytes as usize),
            _ => body.len(),
        };
        let pause = match fault {
            Some(Fault::Slow(rate)) => Some(Duration::from_secs_f64(16_384.0 / rate as f64)),
            _ => None,
        };
        for piece in body[..sent].chunks(if pause.is_some() { 16_384 } else { 1 << 18 }) {
            stream.write_all(piece).await?;
            self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
        match fault {
            Some(Fault::StallAfter(_)) => {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                Ok(false)
            }
            Some(Fault::CutAfter(_) | Fault::WrongLength) => Ok(false),
            _ => Ok(true),
        }
    }
}

impl Shared {
    /// The objects of a bucket below a prefix, as S3 lists them.
    fn list(&self, bucket: &str, prefix: &str) -> String {
        let e_tags = self.e_tags.lock().unwrap();
        let mut listed = String::new();
        for (path, bytes) in &self.objects {
            let Some(key) = path.strip_prefix(&format!("{bucket}/")).filter(|key| key.starts_with(prefix))
            else {
                continue;
            };
            let size = bytes.len();
            let e_tag =
                e_tags.get(path).map(|e_tag| format!("<ETag>{}</ETag>", e_tag.replace('"', "&quot;")));
            let e_tag = e_tag.unwrap_or_default();
            listed.push_str(&format!(
                "<Contents><Key>{key}</Key><Size>{size}</Size>{e_tag}<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            ));
        }
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>")
    }
}

impl Seen {
    /// The prefix, where it asks for a list.
    fn lists(&self) -> Option<String> {
        let mut values = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let is_list = values.clone().any(|(name, value)| (name, value) == ("list-type", "2"));
        is_list.then(|| {
            values.find(|(name, _)| *name == "prefix").map_or_else(String::new, |(_, value)| decode(value))
        })
    }
}

/// Undoes percent-encoding.
fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let digits = if byte == b'%' { [rest.next().unwrap(), rest.next().unwrap()] } else { [0, byte] };
        let text = std::str::from_utf8(&digits).unwrap();
        bytes.push(if byte == b'%' { u8::from_str_radix(text, 16).unwrap() } else { byte });
    }
    String::from_utf8(bytes).unwrap()
}

//! A body with the Content-Encoding `x-gzip`, which is another name of gzip (RFC 9110 §8.4.1.3). The client decodes only
//! what bears the name that it has asked for.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body::{Body, Frame};
use reqwest::{
    Response,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};

/// Returns a response whose body is decoded, piece by piece as it comes.
pub(super) fn decoded(response: Response) -> Response {
    let mut response = http::Response::from(response);
    for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
        response.headers_mut().remove(name);
    }
    response.map(|body| reqwest::Body::wrap(Decoded { body, decoder: MultiGzDecoder::new(Vec::new()) })).into()
}

struct Decoded {
    body: reqwest::Body,
    decoder: MultiGzDecoder<Vec<u8>>,
}

impl Decoded {
    fn decode(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.decoder.write_all(piece)?;
        self.decoder.flush()?;
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

impl Body for Decoded {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)?) else {
                return Poll::Ready(self.decoder.try_finish().err().map(|error| Err(error.into())));
            };
            let Ok(piece) = frame.into_data() else { continue };
            let decoded = self.decode(&piece)?;
            if !decoded.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(decoded))));
            }
        }
    }
}

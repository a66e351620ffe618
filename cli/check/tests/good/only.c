/* Two transforms: one for streams only, one for datagrams only. */
#include <resay_plugin.h>
#include <stdio.h>

static resay_status streams_only(void *instance, void *session, const resay_peer *peer, resay_text *err)
{
  (void)instance, (void)session;
  if (peer->kind != RESAY_DATAGRAM) return RESAY_OK;
  if (err) snprintf(err->buf, err->cap, "no datagrams");
  return RESAY_E_UNSUPPORTED;
}

static resay_status datagrams_only(void *instance, void *session, const resay_peer *peer, resay_text *err)
{
  (void)instance, (void)session;
  if (peer->kind == RESAY_DATAGRAM) return RESAY_OK;
  if (err) snprintf(err->buf, err->cap, "nothing but datagrams");
  return RESAY_E_UNSUPPORTED;
}

static resay_status process(void *instance, void *session, resay_io *io)
{
  size_t n = io->input_len < io->output_cap ? io->input_len : io->output_cap;
  (void)instance, (void)session;
  for (size_t i = 0; i < n; i++) io->output[i] = (uint8_t)~io->input[i];
  io->input_used = io->output_len = n;
  return n == io->input_len ? RESAY_OK : RESAY_MORE_OUT;
}

static const resay_transform streams = {
  .struct_size = sizeof streams, .id = "streams", .session_open = streams_only, .process = process};
static const resay_transform datagrams = {
  .struct_size = sizeof datagrams, .caps = RESAY_CAP_BYTEWISE, .id = "datagrams",
  .session_open = datagrams_only, .process = process};
RESAY_PLUGIN(&streams, &datagrams);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a request to a response.  Files go out of their segments without a
 * copy: the response lists the pieces, and what frees the response unpins the
 * file, however the connection ended.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "figures.h"
#include "page.h"
#include "range.h"
#include "server.h"

#define STRING(x) #x
#define STRING_OF(x) STRING(x)
#define RETRY_SECONDS 1

/* One request: who asks for what.  Lives on the stack of its handler. */
struct request {
	struct server *server;
	struct MHD_Connection *connection;
	const char *method;
	const char *url;
};

/* What is to be sent of a file. */
struct part {
	unsigned status;
	uint64_t offset;
	uint64_t bytes;
};

static enum MHD_Result add(struct MHD_Response *response, const char *name,
			   const char *value)
{
	return MHD_add_response_header(response, name, value);
}

/* ------------------------------------------------------------- sending */

/* A client may write what it likes; a line of the log stays one. */
static void log_request(const struct request *r, unsigned status)
{
	char line[200];

	snprintf(line, sizeof(line), "%s %s", r->method, r->url);
	for (char *c = line; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	fprintf(stderr, "seg-server: %u %s\n", status, line);
}

/* Takes the response, NULL where there was no memory for it: hang up then. */
static enum MHD_Result reply(const struct request *r, unsigned status,
			     struct MHD_Response *response)
{
	enum MHD_Result ret;

	if (!response)
		return MHD_NO;
	if (r->server->log_requests)
		log_request(r, status);
	add(response, "X-Content-Type-Options", "nosniff");
	if (r->server->draining)
		add(response, MHD_HTTP_HEADER_CONNECTION, "close");
	ret = MHD_queue_response(r->connection, status, response);
	MHD_destroy_response(response);
	return ret;
}

static struct MHD_Response *text_response(const char *text)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);

	if (response)
		add(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
	return response;
}

static enum MHD_Result reply_text(const struct request *r, unsigned status,
				  const char *text)
{
	return reply(r, status, text_response(text));
}

/* Why store_get() failed, to the client. */
static enum MHD_Result reply_error(const struct request *r, int error)
{
	struct MHD_Response *response;

	if (error == -ENOENT) {
		count(&r->server->counters.absent_total);
		return reply_text(r, MHD_HTTP_NOT_FOUND, "not found\n");
	}
	if (error == -EIO)
		return reply_text(r, MHD_HTTP_INTERNAL_SERVER_ERROR,
				  "the file can't be read\n");
	count(&r->server->counters.refused_total);
	response = text_response("busy, try again\n");
	if (response)
		add(response, MHD_HTTP_HEADER_RETRY_AFTER,
		    STRING_OF(RETRY_SECONDS));
	return reply(r, MHD_HTTP_SERVICE_UNAVAILABLE, response);
}

/* --------------------------------------------------------------- files */

static const char *type_of(const char *path)
{
	static const char *const types[][2] = {
		{ ".html", "text/html; charset=utf-8" },
		{ ".txt", "text/plain; charset=utf-8" },
		{ ".css", "text/css" }, { ".js", "text/javascript" },
		{ ".json", "application/json" }, { ".svg", "image/svg+xml" },
		{ ".png", "image/png" }, { ".jpg", "image/jpeg" },
		{ ".gif", "image/gif" }, { ".webp", "image/webp" },
		{ ".pdf", "application/pdf" },
	};
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < sizeof(types) / sizeof(*types); i++)
		if (!strcasecmp(dot, types[i][0]))
			return types[i][1];
	return "application/octet-stream";
}

struct etag {
	char text[64];
};

static struct etag etag_of(const struct file_stamp *stamp)
{
	struct etag tag;

	snprintf(tag.text, sizeof(tag.text), "\"%llx-%llx-%llx\"",
		 (unsigned long long)stamp->inode,
		 (unsigned long long)stamp->bytes,
		 (unsigned long long)stamp->changed_ns);
	return tag;
}

static const char *header(const struct request *r, const char *name)
{
	return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND,
					   name);
}

/* "*" is any state of a file that is there; else a list of tags. */
static bool is_known(const char *known, const char *tag)
{
	return known && (!strcmp(known, "*") || (tag && strstr(known, tag)));
}

/* What of the file the client wants: tag may be NULL, it has then none.  What
 * a 304 says of the length is that of the file, though nothing is sent. */
static struct part part_of(const struct request *r, uint64_t bytes,
			   const char *tag)
{
	struct part part = { MHD_HTTP_OK, 0, bytes };
	const char *same = header(r, MHD_HTTP_HEADER_IF_RANGE);

	if (is_known(header(r, MHD_HTTP_HEADER_IF_NONE_MATCH), tag)) {
		part.status = MHD_HTTP_NOT_MODIFIED;
		return part;
	}
	if (strcmp(r->method, MHD_HTTP_METHOD_GET) ||	/* ranges are its own */
	    (same && (!tag || strcmp(same, tag))))
		return part;
	switch (range_parse(header(r, MHD_HTTP_HEADER_RANGE), bytes,
			    &part.offset, &part.bytes)) {
	case RANGE_PART:
		part.status = MHD_HTTP_PARTIAL_CONTENT;
		break;
	case RANGE_NOWHERE:
		part.status = MHD_HTTP_RANGE_NOT_SATISFIABLE;
		part.bytes = 0;
		break;
	case RANGE_WHOLE:
		break;
	}
	return part;
}

static enum MHD_Result reply_file(const struct request *r,
				  const struct part *part, uint64_t bytes,
				  const char *tag,
				  struct MHD_Response *response)
{
	char range[80];

	if (!response)
		return MHD_NO;
	if (part->status == MHD_HTTP_PARTIAL_CONTENT)
		snprintf(range, sizeof(range), "bytes %llu-%llu/%llu",
			 (unsigned long long)part->offset,
			 (unsigned long long)(part->offset + part->bytes - 1),
			 (unsigned long long)bytes);
	else
		snprintf(range, sizeof(range), "bytes */%llu",
			 (unsigned long long)bytes);
	if (part->status == MHD_HTTP_PARTIAL_CONTENT ||
	    part->status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
		add(response, MHD_HTTP_HEADER_CONTENT_RANGE, range);
	if (tag)
		add(response, MHD_HTTP_HEADER_ETAG, tag);
	add(response, MHD_HTTP_HEADER_CONTENT_TYPE, type_of(r->url));
	add(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	return reply(r, part->status, response);
}

/* A MHD_ContentReaderFreeCallback: sent, or never will be. */
static void unpin(void *file)
{
	store_done(file);
	free(file);
}

static struct MHD_Response *memory_response(struct stored *file,
					    const struct part *part)
{
	struct iovec pieces[SEG_PAGE_PARTS];
	struct MHD_IoVec list[SEG_PAGE_PARTS];
	struct MHD_Response *response;
	unsigned n = store_pieces(file, part->offset, part->bytes, pieces);

	for (unsigned i = 0; i < n; i++)
		list[i] = (struct MHD_IoVec){ pieces[i].iov_base,
					      pieces[i].iov_len };
	response = MHD_create_response_from_iovec(list, n, unpin, file);
	if (!response)
		unpin(file);
	return response;
}

/* Too big for a page: the kernel sends it; the limit has no part in that. */
static enum MHD_Result reply_streamed(const struct request *r)
{
	struct file_stamp stamp;
	struct etag text;
	const char *tag;
	struct part part;
	struct MHD_Response *response;
	int fd;
	int ret = file_open(r->server->store.folder, r->url + 1, &fd, &stamp);

	if (ret < 0)
		return reply_error(r, ret);
	count(&r->server->counters.streamed_total);
	text = etag_of(&stamp);
	tag = file_is_settled(&stamp) ? text.text : NULL;
	part = part_of(r, stamp.bytes, tag);
	response = MHD_create_response_from_fd_at_offset64(part.bytes, fd,
							   part.offset);
	if (!response)
		close(fd);
	return reply_file(r, &part, stamp.bytes, tag, response);
}

/* The client as a number: address and port. */
static uint64_t owner_of(struct MHD_Connection *connection)
{
	const struct sockaddr_in *client = (const struct sockaddr_in *)(void *)
		MHD_get_connection_info(connection,
			MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;

	return (uint64_t)ntohl(client->sin_addr.s_addr) << 16 |
	       ntohs(client->sin_port);
}

static enum MHD_Result answer_file(const struct request *r)
{
	struct stored *file = malloc(sizeof(*file));
	struct etag tag;
	struct part part;
	uint64_t bytes;
	bool settled;
	int ret;

	if (!file)
		return reply_error(r, -ENOMEM);
	ret = store_get(&r->server->store, r->url + 1, owner_of(r->connection),
			file);
	if (ret < 0) {
		free(file);
		return ret == -EFBIG ? reply_streamed(r) : reply_error(r, ret);
	}
	count(&r->server->counters.files_total);
	tag = etag_of(&file->stamp);
	bytes = file->stamp.bytes;
	settled = file->settled;
	part = part_of(r, bytes, settled ? tag.text : NULL);
	return reply_file(r, &part, bytes, settled ? tag.text : NULL,
			  memory_response(file, &part));
}

/* --------------------------------------------------------- own content */

static enum MHD_Result answer_page(const struct request *r)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		sizeof(page) - 1, (void *)(uintptr_t)page,
		MHD_RESPMEM_PERSISTENT);

	if (response) {
		add(response, MHD_HTTP_HEADER_CONTENT_TYPE,
		    "text/html; charset=utf-8");
		add(response, "Content-Security-Policy", "default-src 'none'; "
		    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
		    "connect-src 'self'; img-src data:");
	}
	return reply(r, MHD_HTTP_OK, response);
}

static enum MHD_Result
answer_figures(const struct request *r, const char *type,
	       char *(*figures)(struct server *server, size_t *ret_bytes))
{
	size_t bytes;
	char *text = figures(r->server, &bytes);
	struct MHD_Response *response;

	if (!text)
		return reply_error(r, -ENOMEM);
	response = MHD_create_response_from_buffer(bytes, text,
						   MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(text);
		return MHD_NO;
	}
	add(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	add(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	return reply(r, MHD_HTTP_OK, response);
}

static enum MHD_Result answer_method(const struct request *r)
{
	struct MHD_Response *response = text_response("GET or HEAD\n");

	if (response)
		add(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	return reply(r, MHD_HTTP_METHOD_NOT_ALLOWED, response);
}

static enum MHD_Result answer(const struct request *r)
{
	if (strcmp(r->method, MHD_HTTP_METHOD_GET) &&
	    strcmp(r->method, MHD_HTTP_METHOD_HEAD))
		return answer_method(r);
	if (!strcmp(r->url, "/"))
		return answer_page(r);
	if (!strcmp(r->url, "/stats"))
		return answer_figures(r, "application/json", figures_json);
	if (!strcmp(r->url, "/metrics"))
		return answer_figures(r, "text/plain; version=0.0.4",
				      figures_prometheus);
	if (*r->url != '/')
		return reply_error(r, -ENOENT);
	return answer_file(r);
}

/* ------------------------------------------------------------ requests */

enum MHD_Result answer_request(void *ctx, struct MHD_Connection *connection,
			       const char *url, const char *method,
			       const char *version, const char *upload_data,
			       size_t *upload_bytes, void **request)
{
	struct server *server = ctx;
	struct request r = { server, connection, method, url };

	(void)version;
	(void)upload_data;
	if (!*request) {	/* the headers are there; more may follow */
		*request = server;
		server->sending++;
		count(&server->counters.requests_total);
		return MHD_YES;
	}
	if (*upload_bytes) {	/* nothing here takes a body */
		*upload_bytes = 0;
		return MHD_YES;
	}
	return answer(&r);
}

void answer_ended(void *ctx, struct MHD_Connection *connection,
		  void **request, enum MHD_RequestTerminationCode how)
{
	struct server *server = ctx;

	(void)connection;
	(void)request;
	if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK)
		count(&server->counters.cut_total);
	/*
	 * seq_cst: after this either the drain sees 0 or we see the drain.
	 */
	if (--server->sending == 0 && server->draining) {
		pthread_mutex_lock(&server->lock);
		pthread_cond_signal(&server->idle);
		pthread_mutex_unlock(&server->lock);
	}
}

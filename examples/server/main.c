/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * seg-server: an HTTP server that holds the files of a folder in one cache of
 * libseg.  Exit status: 0 all was given back, 1 not so, or it could not start,
 * 2 bad usage.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "server.h"

#define CONNECTIONS 512		/* of some 40 KiB each, beside the budget */
#define IDLE_SECONDS 10		/* one that takes nothing is closed */
#define SEND_BYTES (64 << 10)	/* the kernel's copy of what is being sent */
#define GRACE_SECONDS 5		/* for what is being sent when told to end */

static void log_line(void *ctx, enum seg_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	fprintf(stderr, "seg-server: %s\n", line);
}

static int start_failed(const char *what, int error)
{
	fprintf(stderr, "seg-server: %s: %s\n", what, strerror(error));
	return -error;
}

/* The drain's deadline is on the monotonic clock. */
static int prepare(struct server *server)
{
	pthread_condattr_t monotonic;
	int ret = pthread_condattr_init(&monotonic);

	if (ret)
		return -ret;
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	ret = pthread_cond_init(&server->idle, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (!ret)
		ret = pthread_mutex_init(&server->lock, NULL);
	return -ret;
}

/*
 * What a slow client has not taken yet stays in its segments, which the budget
 * bounds.  Without this the kernel would copy megabytes of it for each client.
 */
static void connection_began(void *ctx, struct MHD_Connection *connection,
			     void **context,
			     enum MHD_ConnectionNotificationCode what)
{
	int bytes = SEND_BYTES;

	(void)ctx;
	(void)context;
	if (what == MHD_CONNECTION_NOTIFY_STARTED)
		setsockopt(MHD_get_connection_info(connection,
				MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
			   SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static struct MHD_Daemon *start(struct server *server,
				const struct options *options)
{
	return MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL,
		answer_request, server,
		MHD_OPTION_SOCK_ADDR, &options->address,
		MHD_OPTION_NOTIFY_COMPLETED, answer_ended, server,
		MHD_OPTION_NOTIFY_CONNECTION, connection_began, NULL,
		MHD_OPTION_THREAD_POOL_SIZE,
		options->threads > 1 ? options->threads : 0,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
		MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
		MHD_OPTION_END);
}

/* Waits until nothing is being sent, or the time is up: what still is. */
static uint64_t wait_for_idle(struct server *server)
{
	struct timespec deadline;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += GRACE_SECONDS;
	pthread_mutex_lock(&server->lock);
	/* seq_cst: see answer_ended() */
	while (server->sending && ret != ETIMEDOUT)
		ret = pthread_cond_timedwait(&server->idle, &server->lock,
					     &deadline);
	pthread_mutex_unlock(&server->lock);
	return server->sending;
}

/* No new connections, then no requests; then what is left is cut off. */
static void drain(struct server *server, struct MHD_Daemon *daemon)
{
	MHD_socket listener = MHD_quiesce_daemon(daemon);
	uint64_t left = server->sending;

	fprintf(stderr, "seg-server: ending, %llu being sent\n",
		(unsigned long long)left);
	server->draining = true;
	left = wait_for_idle(server);
	MHD_stop_daemon(daemon);
	if (listener != MHD_INVALID_SOCKET)
		close(listener);
	if (left)
		fprintf(stderr, "seg-server: %llu cut off after %d s\n",
			(unsigned long long)left, GRACE_SECONDS);
}

static int serve(struct server *server, const struct options *options,
		 const sigset_t *ends)
{
	struct MHD_Daemon *daemon = start(server, options);
	char address[INET_ADDRSTRLEN] = "";
	int signal_number;

	if (!daemon)
		return start_failed("can't listen", errno ? errno : EINVAL);
	inet_ntop(AF_INET, &options->address.sin_addr, address,
		  sizeof(address));
	printf("seg-server: http://%s:%u/\n", address,
	       MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
	fflush(stdout);
	sigwait(ends, &signal_number);
	drain(server, daemon);
	return 0;
}

int main(int argc, char **argv)
{
	static struct server server;
	struct store_options store = { .log = log_line };
	struct options options;
	sigset_t ends;
	int ret;

	switch (options_read(argc, argv, &options)) {
	case OPTIONS_HELP: return 0;
	case OPTIONS_WRONG: return 2;
	case OPTIONS_GOOD: break;
	}
	/* Before there are threads, so that all of them have them blocked. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	signal(SIGPIPE, SIG_IGN);

	store.root = options.root;
	store.budget_bytes = options.budget_bytes;
	store.log_level = options.log_level;
	server.log_requests = options.log_requests;
	ret = prepare(&server);
	if (!ret)
		ret = store_open(&server.store, &store);
	if (ret < 0) {
		start_failed(options.root, -ret);
		return 1;
	}
	ret = serve(&server, &options, &ends);
	if (store_close(&server.store) < 0)
		return 1;
	fprintf(stderr, "seg-server: nothing left: no pin, no segment, "
		"no byte charged\n");
	return ret < 0;
}

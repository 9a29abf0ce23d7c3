/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Caffeine, in a Java process of its own: the source is compiled by Java when
 * it starts.  Its plain hit and its pin are the same look-up.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cachebench.h"

#define CAFFEINE_JAR "/usr/share/java/caffeine.jar"

static struct {
	FILE *in, *out;		/* of ours: what it says, what it is told */
	pid_t pid;
	char line[256];
} java;

static const char *source(void)
{
	const char *path = getenv("CACHEBENCH_JAVA");

	return path ? path : BENCH_SOURCES "/cachebench_caffeine.java";
}

_Noreturn static void become_java(const int to[2], const int from[2])
{
	dup2(to[0], STDIN_FILENO);
	dup2(from[1], STDOUT_FILENO);
	close(to[1]);
	close(from[0]);
	execlp("java", "java", "-Xmx2g", "-cp", CAFFEINE_JAR, source(),
	       (char *)NULL);
	_exit(127);
}

static bool start(void)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		bench_die("pipe2");
	java.pid = fork();
	if (java.pid < 0)
		bench_die("fork");
	if (!java.pid)
		become_java(to, from);
	close(to[0]);
	close(from[1]);
	java.out = fdopen(to[1], "w");
	java.in = fdopen(from[0], "r");
	return java.out && java.in;
}

/* Sends the line, and reads the answer. */
static bool ask(const char *line)
{
	return fprintf(java.out, "%s\n", line) > 0 && !fflush(java.out) &&
	       fgets(java.line, sizeof(java.line), java.in);
}

static void stop(void)
{
	fclose(java.out);
	fclose(java.in);
	waitpid(java.pid, NULL, 0);
}

static const char *caffeine_absent(void)
{
	if (access(CAFFEINE_JAR, R_OK))
		return "no " CAFFEINE_JAR " (libcaffeine-java)";
	if (access(source(), R_OK))
		return "its driver is not there (CACHEBENCH_JAVA)";
	signal(SIGPIPE, SIG_IGN);
	if (start() && ask("warm"))
		return NULL;
	stop();
	return "no Java compiler (java SOURCE did not answer)";
}

static void *caffeine_setup(const struct bench_setup *setup)
{
	char line[128];

	snprintf(line, sizeof(line), "setup %llu %llu %d",
		 (unsigned long long)setup->entries,
		 (unsigned long long)setup->capacity, BENCH_WEIGHT);
	return ask(line) ? &java : NULL;
}

/* It ends with us: its input is closed then. */
static void caffeine_teardown(void *state)
{
	(void)state;
}

static bool caffeine_run(void *state, const struct bench_run *run,
			 struct bench_result *result)
{
	char line[128];

	(void)state;
	snprintf(line, sizeof(line), "run %d %d %d %llu %.6f %llu",
		 (int)run->loop, run->keys, run->threads,
		 (unsigned long long)run->entries, run->seconds,
		 (unsigned long long)run->most);
	return ask(line) &&
	       sscanf(java.line, "%lf %lf %lf %lf", &result->ops,
		      &result->wall, &result->cpu, &result->hit_ratio) == 4;
}

const struct bench_subject bench_caffeine = {
	.name = "caffeine",
	.loops = (1 << LOOPS) - 1,
	.absent = caffeine_absent,
	.setup = caffeine_setup,
	.teardown = caffeine_teardown,
	.remote = caffeine_run,
};

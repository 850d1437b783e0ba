/*
 * main.c
 *		iterable_emulator: an HTTP server that behaves as Iterable's API does.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "http.h"
#include "limits.h"
#include "project.h"
#include "records.h"
#include "settings.h"

#define KEPT_MEMORY (32 * 1024 * 1024)

static const char usage[] =
"usage: iterable_emulator [options]\n"
"  --port N              port to listen on, 0 (the default) for any free one\n"
"  --bind ADDRESS        address to listen on (127.0.0.1)\n"
"  --api-key KEY         an API key that is accepted, repeatable (test-key)\n"
"  --project-type TYPE   email (the default), userid or hybrid\n"
"  --users-rate N        bulkUpdate requests a second (5), 0 for no limit\n"
"  --events-rate N       trackBulk requests a second (10), 0 for no limit\n"
"  --tls-cert FILE       serve HTTPS with this certificate (PEM) and\n"
"  --tls-key FILE        this key\n"
"  --port-file FILE      write the port there once listening\n"
"  --stay-with-parent    exit when the parent process does\n";

typedef struct Options
{
	HttpOptions http;
	const char *port_file;
	bool		stays_with_parent;
} Options;

static void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "iterable_emulator: %s: %s\n", what, detail);
	exit(1);
}

static int
parse_number(const char *option, const char *text, int most)
{
	char	   *end;
	long		number = strtol(text, &end, 10);

	if (end == text || *end != '\0' || number < 0 || number > most)
		fail(option, "not a number in range");
	return (int) number;
}

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	Buffer		text = {0};
	char		chunk[4096];
	size_t		len;

	if (file == NULL)
		fail(path, strerror(errno));
	while ((len = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buffer_append(&text, chunk, len);
	fclose(file);
	if (text.len == 0)
		fail(path, "is empty");
	return text.data;
}

static void
parse_options(int argc, char **argv, Options *options)
{
	enum
	{
		PORT = 1, BIND, API_KEY, PROJECT_TYPE, USERS_RATE, EVENTS_RATE,
		TLS_CERT, TLS_KEY, PORT_FILE, STAY_WITH_PARENT, HELP
	};
	static const struct option known[] = {
		{"port", required_argument, NULL, PORT},
		{"bind", required_argument, NULL, BIND},
		{"api-key", required_argument, NULL, API_KEY},
		{"project-type", required_argument, NULL, PROJECT_TYPE},
		{"users-rate", required_argument, NULL, USERS_RATE},
		{"events-rate", required_argument, NULL, EVENTS_RATE},
		{"tls-cert", required_argument, NULL, TLS_CERT},
		{"tls-key", required_argument, NULL, TLS_KEY},
		{"port-file", required_argument, NULL, PORT_FILE},
		{"stay-with-parent", no_argument, NULL, STAY_WITH_PARENT},
		{"help", no_argument, NULL, HELP},
		{NULL, 0, NULL, 0}
	};
	int			option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (option)
		{
			case PORT:
				options->http.port = parse_number("--port", optarg, 65535);
				break;
			case BIND:
				options->http.bind_address = optarg;
				break;
			case API_KEY:
				settings_add_key(optarg);
				break;
			case PROJECT_TYPE:
				if (!settings_project_type(optarg, &settings.project_type))
					fail("--project-type", "expected email, userid or hybrid");
				break;
			case USERS_RATE:
				settings.users_rate = parse_number("--users-rate", optarg, 1000000);
				break;
			case EVENTS_RATE:
				settings.events_rate = parse_number("--events-rate", optarg, 1000000);
				break;
			case TLS_CERT:
				options->http.tls_certificate = read_file(optarg);
				break;
			case TLS_KEY:
				options->http.tls_key = read_file(optarg);
				break;
			case PORT_FILE:
				options->port_file = optarg;
				break;
			case STAY_WITH_PARENT:
				options->stays_with_parent = true;
				break;
			case HELP:
				fputs(usage, stdout);
				exit(0);
			default:
				fputs(usage, stderr);
				exit(2);
		}
	if (optind < argc)
		fail(argv[optind], "unexpected argument");
	if ((options->http.tls_certificate == NULL) != (options->http.tls_key == NULL))
		fail("--tls-cert", "needs --tls-key too");
}

/* whoever sees the file finds the whole number in it */
static void
write_port_file(const char *path, int port)
{
	Buffer		temporary = {0};
	FILE	   *file;

	buffer_printf(&temporary, "%s.%ld", path, (long) getpid());
	file = fopen(temporary.data, "w");
	if (file == NULL || fprintf(file, "%d\n", port) < 0 ||
		fclose(file) != 0 || rename(temporary.data, path) != 0)
		fail(path, strerror(errno));
	buffer_free(&temporary);
}

/* signals come in as reads from the result */
static int
open_signals(void)
{
	sigset_t	signals;
	int			fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0)
		fail("sigprocmask", strerror(errno));
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		fail("signalfd", strerror(errno));
	return fd;
}

static void
raise_open_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int
main(int argc, char **argv)
{
	Options		options = {.http = {.bind_address = "127.0.0.1"}};
	pid_t		parent = getppid();
	int			signal_fd;

	/*
	 * Bodies come and go all the time: keep their memory instead of getting
	 * cleared pages from the kernel for each of them.
	 */
	mallopt(M_MMAP_THRESHOLD, KEPT_MEMORY);
	mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);

	settings_defaults();
	parse_options(argc, argv, &options);
	settings_remember();
	json_setup();
	project_reset();
	raise_open_files();
	signal_fd = open_signals();
	if (options.stays_with_parent)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		/* it may have gone before we asked */
		if (getppid() != parent)
			return 0;
	}
	if (!http_start(&options.http))
		return 1;
	printf("listening on %d\n", http_port());
	fflush(stdout);
	if (options.port_file != NULL)
		write_port_file(options.port_file, http_port());
	http_serve(signal_fd);
	http_stop();

	free((void *) (uintptr_t) options.http.tls_certificate);
	free((void *) (uintptr_t) options.http.tls_key);
	/* free all there is, so that a leak checker has something to say */
	project_reset();
	records_reset();
	limits_reset();
	script_reset();
	json_thread_end();
	return 0;
}

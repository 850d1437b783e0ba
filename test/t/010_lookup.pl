# Copyright (c) 2026, the iterable_sync developers

# Look-ups and iterable_test_connection() against an emulator: what they
# return, how they fail, that they end in time, and that neither keys nor
# what Iterable knows of a person gets into messages and logs.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

use POSIX ();
use Time::HiRes qw(time);

my $emulator = start_emulator(projectType => 'hybrid');
my $node = start_cluster('main',
	conf => "log_statement = 'none'\nlog_min_error_statement = panic\ntimezone = 'Asia/Tokyo'\n");

create_connection($node, 'prod', $emulator);
create_connection($node, 'quick', $emulator, request_timeout => '500ms');

# A query on a look-up that must fail: its error.
sub lookup_error
{
	my ($arguments, $function) = @_;

	$function //= 'iterable_lookup_user';
	return sql_error($node, "SELECT * FROM $function($arguments)");
}

sub test_connection
{
	my ($name) = @_;

	return $node->safe_psql('postgres',
		"SELECT check_name, coalesce(ok::text, 'null'), detail FROM iterable_test_connection('$name')");
}

#
# Users
#
# As text, since a number in Perl would not keep its digits.
$emulator->call('POST', '/control/seed',
	'{"users":[{"email":"ann@example.com","userId":"ann 1/2?a=%41&+#",'
	  . '"dataFields":{"name":"\u00c4nn \u4e2d","big":1234567890123456789012.5,'
	  . '"tags":["a","b"],"nested":{"deep":{"n":1}}}}]}');
$emulator->seed({ email => 'bob+tag@example.com' });

is( $node->safe_psql(
		'postgres',
		q{SELECT email, user_id, data_fields->>'name', data_fields->'big',
			data_fields->'tags', data_fields#>'{nested,deep}'
		  FROM iterable_lookup_user('prod', email => 'ann@example.com')}),
	"ann\@example.com|ann 1/2?a=%41&+#|\x{c3}\x{84}nn \x{e4}\x{b8}\x{ad}|1234567890123456789012.5|[\"a\", \"b\"]|{\"n\": 1}",
	'a user by e-mail, with exact numbers');
is( $node->safe_psql(
		'postgres',
		q{SELECT email FROM iterable_lookup_user('prod', email => 'ANN@Example.COM')}),
	'ann@example.com',
	'e-mails are compared without case');
is( $node->safe_psql(
		'postgres',
		q{SELECT email FROM iterable_lookup_user('prod', user_id => 'ann 1/2?a=%41&+#')}),
	'ann@example.com',
	'a user by user id, however odd it is');
is( $node->safe_psql(
		'postgres',
		q{SELECT user_id IS NULL, data_fields->>'signupSource' FROM iterable_lookup_user('prod', 'bob+tag@example.com')}),
	't|API',
	'a user without user id');
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM iterable_lookup_user('prod', email => 'nobody@example.com')}),
	'0',
	'no row for an unknown e-mail');
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM iterable_lookup_user('prod', user_id => 'nobody')}),
	'0',
	'no row for an unknown user id');
is( $node->safe_psql(
		'postgres',
		q{BEGIN READ ONLY; SELECT count(*) FROM iterable_lookup_user('prod', email => 'ann@example.com'); COMMIT}),
	'1',
	'in a read-only transaction');

$emulator->script(
	{ body => { user => {} }, status => 200 },
	{ body => { code => 'error.users.noUserWithIdExists', msg => 'x', params => undef }, status => 500 },
	{ body => { user => { userId => 7, email => undef, dataFields => undef } }, status => 200 });
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM iterable_lookup_user('prod', user_id => 'x')}),
	'0', 'an empty user is none');
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM iterable_lookup_user('prod', user_id => 'x')}),
	'0', 'nor is a code that says so, whatever the status');
is( $node->safe_psql(
		'postgres',
		q{SELECT email IS NULL, user_id, data_fields FROM iterable_lookup_user('prod', user_id => 'x')}),
	't|7|null',
	'members of other types');

#
# Events
#
$emulator->seed({ email => 'eve@example.com', userId => 'eve' });
foreach my $n (1 .. 40)
{
	$emulator->{http}->post(
		$emulator->url . '/api/events/track',
		{
			headers => {
				'Api-Key' => $emulator->key,
				'Content-Type' => 'application/json'
			},
			content => sprintf(
				'{"userId":"eve","eventName":"Bought %d","id":"event-%d","createdAt":%d,"dataFields":{"price":10.10}}',
				$n % 2, $n, 1700000000 + $n)
		})->{success} or die "could not track event $n";
}
is( $node->safe_psql(
		'postgres',
		q{SELECT event_name, event_type, extract(epoch FROM created_at)::bigint, id, data->'dataFields'->'price'
		  FROM iterable_lookup_events('prod', user_id => 'eve', max_events => 2)}),
	"Bought 0|customEvent|1700000040|event-40|10.10\nBought 1|customEvent|1700000039|event-39|10.10",
	'the newest events');
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*), count(DISTINCT id) FROM iterable_lookup_events('prod', email => 'eve@example.com')}),
	'30|30',
	'thirty events unless told otherwise');
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM iterable_lookup_events('prod', user_id => 'nobody')}),
	'0',
	'no events of an unknown user');

$emulator->script(
	{
		body => {
			events => [
				{ createdAt => 1700000000 },
				{ createdAt => 1700000000123 },
				{ createdAt => '2024-02-29 23:59:59 -01:30' },
				{ createdAt => '2023-02-29 00:00:00 +00:00' },
				{ createdAt => '2024-02-29T00:00:00Z' },
				{ createdAt => undef },
				{ createdAt => -1 },
				{ createdAt => {} },
				7
			]
		},
		status => 200
	},
	{ body => { events => [] }, status => 200 },
	{ body => 'No user with that id exists!', status => 400 });
is( $node->safe_psql(
		'postgres',
		q{SELECT coalesce(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), 'null')
		  FROM iterable_lookup_events('prod', user_id => 'eve')}),
	join("\n",
		'2023-11-14 22:13:20.000', '2023-11-14 22:13:20.123',
		'2024-03-01 01:29:59.000', ('null') x 6),
	'times in every form; others are null');
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM iterable_lookup_events('prod', user_id => 'eve')}),
	'0', 'no events');
is( $node->safe_psql('postgres',
		q{SELECT count(*) FROM iterable_lookup_events('prod', user_id => 'eve')}),
	'0', 'no events of a user that does not exist');

#
# Answers that are errors; canaries stand where a person's data would
#
my $canary_user = q{'prod', user_id => 'canary-person'};
my @answers = (
	[ { status => 401, body => { code => 'BadApiKey', msg => 'Invalid API key canary-person', params => { ip => 'canary-person' } } }, '28000', 'a refused key' ],
	[ { status => 403, body => { code => 'Forbidden', msg => 'no', params => {} } }, '28000', 'a forbidden request' ],
	[ { status => 429, body => { code => 'RateLimitExceeded', msg => 'slow down', params => {} } }, '53400', 'a reached limit' ],
	[ { status => 500, body => 'canary-person' }, '38000', 'an error of Iterable' ],
	[ { status => 400, body => { code => 'BadParams', msg => 'bad canary-person' } }, '38000', 'a refused request' ],
	[ { status => 404, body => '<html>canary-person</html>' }, '38000', 'a page that is not there' ],
	[ { status => 302, headers => { Location => $emulator->url . '/api/users/byUserId/elsewhere' } }, '38000', 'a redirect, which is not followed' ],
	[ { status => 200, body => 'canary-person' }, '38000', 'no JSON' ],
	[ { status => 200, body => '{"user":{"email":"canary-person"}' }, '38000', 'half of a JSON object' ],
	[ { status => 200, body => '{"user":{"email":"canary-person\u0000"}}' }, '38000', 'a null character' ],
	[ { status => 200, body => '{"user":{"email":"canary-person","dataFields":{"n":1e999999}}}' }, '38000', 'a number that is too large' ],
	[ { status => 200, body => '[1]' }, '38000', 'other JSON' ],
	[ { action => 'drop' }, '08006', 'a connection that is closed' ],
	[ { action => 'truncate' }, '08006', 'half of an answer' ],
	[ { action => 'garbage' }, '38000', 'garbage' ]);
foreach my $case (@answers)
{
	my ($step, $state, $what) = @$case;

	foreach my $function ('iterable_lookup_user', 'iterable_lookup_events')
	{
		my $error;

		# Both forms of half a body are for the one function only.
		next if $function =~ /events/ && ($step->{body} // '') =~ /user/;
		$emulator->script($step);
		$error = lookup_error($canary_user, $function);
		like($error, qr/^$state: /, "$function: $what");
		unlike($error, qr/canary/, "$function: $what: the message tells nothing");
	}
}
is($emulator->stats->{scriptLeft}, 0, 'every answer was given');
is(scalar(grep { $_->{path} =~ /elsewhere/ } $emulator->requests),
	0, 'the redirect was not followed');

#
# Time
#
sub timed
{
	my ($code) = @_;
	my $start = time();
	my $result = $code->();

	return ($result, time() - $start);
}

$emulator->script({ action => 'hang', times => 0 });
my ($error, $seconds) = timed(sub { lookup_error(q{'quick', user_id => 'x'}) });
like($error, qr/^08006: /, 'request_timeout ends a look-up');
cmp_ok($seconds, '<', 3, 'in time');
($error, $seconds) = timed(
	sub {
		sql_error($node,
			q{SET statement_timeout = '300ms'; SELECT * FROM iterable_lookup_user('prod', user_id => 'x')});
	});
like($error, qr/^57014: /, 'statement_timeout cancels a look-up');
cmp_ok($seconds, '<', 2, 'in time');
($error, $seconds) = timed(
	sub {
		sql_error($node,
			q{SET statement_timeout = '300ms'; SELECT * FROM iterable_test_connection('prod')});
	});
like($error, qr/^57014: /, 'statement_timeout cancels a test of a connection');
cmp_ok($seconds, '<', 2, 'in time');
like(
	test_connection('quick'),
	qr/^reachable\|true\|.*\nTLS\|true\|.*\nkey accepted\|null\|no answer: .*\ndata center\|null\|/,
	'a server that does not answer');
$emulator->reset;
$emulator->seed({ email => 'eve@example.com', userId => 'eve' });

# More look-ups than a second may see
$emulator->config({ otherRates => JSON::PP::true });
is( $node->safe_psql(
		'postgres',
		q{SELECT count(*) FROM generate_series(1, 130) i,
			LATERAL iterable_lookup_user('prod', user_id => CASE WHEN i > 0 THEN 'eve' END)}),
	'130',
	'look-ups are paced');
cmp_ok($emulator->stats->{maxPerSecond}{'users/byUserId/{userId}'},
	'<=', 100, "and never exceed Iterable's limit");

#
# Tests of connections
#
my $url = $emulator->url;
is( test_connection('prod'),
	"reachable|true|$url\n"
	  . "TLS|true|none, as iterable_sync.allow_insecure_base_url permits: the key and the data travel in clear\n"
	  . "key accepted|true|Iterable accepts the key\n"
	  . "data center|null|base_url is not that of a data center",
	'a connection that works');
create_connection($node, 'wrong', $emulator, key => 'canary-wrong');
like(
	test_connection('wrong'),
	qr/^key accepted\|false\|Iterable refuses the key with HTTP status 401: Invalid API key$/m,
	'a wrong key');
like(lookup_error(q{'wrong', user_id => 'x'}),
	qr/^28000: /, 'a look-up with a wrong key');
$emulator->config({ disabledKeys => [ $emulator->key ] });
like(
	test_connection('prod'),
	qr/^key accepted\|false\|.*insufficient privileges/m,
	'a disabled key');
$emulator->config({ disabledKeys => [] });
foreach my $case (
	[ { status => 429, body => { code => 'RateLimitExceeded', msg => 'x' } }, qr/try again later/ ],
	[ { status => 503, body => 'canary' }, qr/HTTP status 503\); try again later/ ],
	[ { status => 404, body => '<html>canary</html>' }, qr/check the option base_url/ ],
	[ { status => 302, headers => { Location => 'http://127.0.0.1:9/' } }, qr/check the option base_url/ ],
	[ { status => 200, body => '{"hello":"canary"}' }, qr/check the option base_url/ ],
	[ { action => 'drop' }, qr/no answer: / ])
{
	my ($step, $detail) = @$case;

	$emulator->script($step);
	like(test_connection('prod'), qr/^key accepted\|null\|.*$detail/m,
		'an answer that tells nothing of the key: ' . ($step->{status} // 'none'));
}

# TLS is asked of a server that does not speak it
create_connection($node, 'tls', $emulator,
	base_url => 'https://127.0.0.1:' . $emulator->port);
like(
	test_connection('tls'),
	qr/^reachable\|true\|.*\nTLS\|false\|.*\nkey accepted\|null\|not checked\ndata center\|null\|/,
	'a failure of TLS is told from that of the network');
like(lookup_error(q{'tls', user_id => 'x'}),
	qr/^08001: .*\nDETAIL: /, 'a look-up without TLS');

SKIP:
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $pid;

	skip 'openssl is not there', 2
	  if system(
		"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
		  . "-keyout $dir/key.pem -out $dir/cert.pem >$dir/log 2>&1") != 0;
	$pid = fork() // die;
	if ($pid == 0)
	{
		exec($ENV{ITERABLE_EMULATOR}, '--port', '0', '--port-file',
			"$dir/port", '--tls-cert', "$dir/cert.pem", '--tls-key',
			"$dir/key.pem", '--stay-with-parent')
		  or POSIX::_exit(127);
	}
	wait_until(sub { -s "$dir/port" }, 'an emulator with TLS');
	create_connection($node, 'self_signed', $emulator,
		base_url => 'https://localhost:' . (slurp_file("$dir/port") + 0));
	like(test_connection('self_signed'),
		qr/^reachable\|true\|.*\nTLS\|false\|.*certificate/,
		'a certificate that nobody vouches for');
	kill('KILL', $pid);
	waitpid($pid, 0);
}

create_connection($node, 'lost', $emulator,
	base_url => 'http://iterable.invalid', connect_timeout => '2s');
like(test_connection('lost'), qr/^reachable\|false\|.*resolv.*\nTLS\|null\|/i,
	'a host that does not exist');

#
# Key files
#
my $key_dir = PostgreSQL::Test::Utils::tempdir();
my $key_file = "$key_dir/canary_path";

sub write_key
{
	my ($content, $mode) = @_;

	# As careful people replace a file: write another, then rename it.
	open(my $file, '>', "$key_file.new") or die "could not write a key: $!";
	print $file $content;
	close($file);
	chmod($mode // 0600, "$key_file.new") or die;
	rename("$key_file.new", $key_file) or die;
	return;
}

create_connection($node, 'file', $emulator, key_file => $key_file);
$emulator->config({ apiKeys => [ $emulator->key, 'canary-second' ] });
my $session = $node->background_psql('postgres', on_error_stop => 0);

sub session_lookup
{
	my $result = $session->query(
		q{SELECT count(*) FROM iterable_lookup_user('file', user_id => 'eve')});

	# Depending on the version, errors are in a variable of the session.
	$session->{stderr} = '';
	return $result // '';
}

write_key($emulator->key . "\n");
is(session_lookup(), '1', 'a key from a file');
write_key("canary-third\n");
is(session_lookup(), '', 'a new key counts at once');
write_key(" \tcanary-second\r\n\n");
is(session_lookup(), '1', 'without blanks around it');
$emulator->config({ apiKeys => [ $emulator->key ] });
is(session_lookup(), '', 'Iterable refuses the key now');
write_key($emulator->key);
is(session_lookup(), '1', 'and takes the one that replaces it');
$session->quit;

my @files = (
	[ sub { write_key($emulator->key, 0640) }, 'F0000', 'others', 'a file that a group can read' ],
	[ sub { write_key($emulator->key, 0604) }, 'F0000', 'others', 'a file that all can read' ],
	[ sub { write_key($emulator->key, 0620) }, 'F0000', 'others', 'a file that a group can change' ],
	[ sub { write_key('') }, 'F0000', 'it is empty', 'an empty file' ],
	[ sub { write_key(" \n") }, 'F0000', 'it is empty', 'a blank file' ],
	[ sub { write_key("canary canary\n") }, 'F0000', 'a blank', 'two words' ],
	[ sub { write_key("canary\r\nX-Header: 1\n") }, 'F0000', 'a blank', 'two lines' ],
	[ sub { write_key("canary\0canary") }, 'F0000', 'a null byte', 'a null byte' ],
	[ sub { write_key('canary' x 43) }, 'F0000', 'longer', 'a long key' ],
	[ sub { write_key('canary' x 1000) }, 'F0000', 'too large', 'a large file' ],
	[ sub { write_key($emulator->key, 0000) }, '42501', 'could not open', 'a file that the server cannot read' ],
	[ sub { unlink($key_file) }, '58P01', 'could not open', 'a missing file' ],
	[ sub { mkdir($key_file, 0700) }, 'F0000', 'not a regular file', 'a directory' ],
	[ sub { rmdir($key_file); POSIX::mkfifo($key_file, 0600) }, 'F0000', 'not a regular file', 'a pipe' ]);
foreach my $case (@files)
{
	my ($make, $state, $words, $what) = @$case;
	my ($result, $seconds);

	$make->();
	($result, $seconds) =
	  timed(sub { lookup_error(q{'file', user_id => 'eve'}) });
	like($result, qr/^$state: .*$words/, $what);
	unlike($result, qr/canary/, "$what: neither path nor key is told");
	cmp_ok($seconds, '<', 3, "$what: at once");
	like(test_connection('file'),
		qr/^reachable\|true\|.*\nTLS\|true\|.*\nkey accepted\|false\|.*$words/,
		"$what: the rest of the connection is tested all the same");
}
unlink($key_file);
write_key($emulator->key, 0400);
like(test_connection('file'), qr/^key accepted\|true\|/m,
	'a file that can only be read');
like(log_of($node), qr/DETAIL:  The file is ".*canary_path"/,
	'the log names the file');

#
# A permission that is withdrawn
#
$node->append_conf('postgresql.conf',
	'iterable_sync.allow_insecure_base_url = off');
$node->reload;
wait_until(
	sub {
		$node->safe_psql('postgres',
			'SHOW iterable_sync.allow_insecure_base_url') eq 'off';
	},
	'the setting is off');
like(lookup_error(q{'prod', user_id => 'x'}),
	qr/^22023: .*base_url.*\n.*\nHINT: .*allow_insecure_base_url/,
	'a connection that was permitted is not any more');
like(sql_error($node, q{SELECT * FROM iterable_test_connection('prod')}),
	qr/^22023: /, 'nor can it be tested');
like(sql_error($node, q{ALTER SERVER prod OPTIONS (ADD users_rate '7')}),
	qr/^22023: /, 'nor altered');
foreach my $url (
	'http://api.iterable.com', 'https://iterable.com.example',
	'https://notiterable.com', 'https://api-iterable.com',
	'https://127.0.0.1', 'https://[::1]',
	'https://api.iterable.com.', 'https://api.iterable.co')
{
	like(
		sql_error($node,
			"CREATE SERVER bad FOREIGN DATA WRAPPER iterable OPTIONS (data_center 'us', project_type 'email', base_url '$url')"),
		qr/^22023: option "base_url" must be https and a host under iterable.com/,
		"$url is refused");
}
foreach my $url ('https://api.iterable.com', 'https://API.eu.Iterable.com:443/', 'https://iterable.com')
{
	$node->safe_psql('postgres',
		"CREATE SERVER good FOREIGN DATA WRAPPER iterable OPTIONS (data_center 'us', project_type 'email', base_url '$url'); DROP SERVER good");
	pass("$url is permitted");
}
$node->append_conf('postgresql.conf',
	'iterable_sync.allow_insecure_base_url = on');
$node->reload;
wait_until(
	sub {
		$node->safe_psql('postgres',
			'SHOW iterable_sync.allow_insecure_base_url') eq 'on';
	},
	'the setting is on');

#
# A database that is not UTF-8
#
$node->safe_psql('postgres',
	q{CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'});
$node->safe_psql('latin1', 'CREATE EXTENSION iterable_sync');
create_connection($node, 'prod', $emulator, dbname => 'latin1');
$emulator->seed(
	{ userId => 'umlaut', dataFields => { name => "\x{e4}" } },
	{ userId => 'canary-euro', dataFields => { name => "\x{20ac}" } });
is( $node->safe_psql(
		'latin1',
		q{SELECT data_fields->>'name' = chr(228) FROM iterable_lookup_user('prod', user_id => 'umlaut')}),
	't',
	'what the encoding of the database has');
like(
	sql_error($node,
		q{SELECT * FROM iterable_lookup_user('prod', user_id => 'canary-euro')},
		'latin1'),
	qr/^38000: [^\n]*\nDETAIL:  [^\n]*encoding[^\n]*$/,
	'what it does not have is an error that tells nothing of the data');
$node->safe_psql('latin1',
	q{SELECT * FROM iterable_lookup_user('prod', email => 'm' || chr(252) || 'ller@example.com')});
is(($emulator->requests)[-1]{path},
	"/api/users/m\x{fc}ller\@example.com", 'identifiers are sent as UTF-8');

#
# Without shared memory
#
my $small = start_cluster('small', preload => 0);
create_connection($small, 'prod', $emulator);
is( $small->safe_psql('postgres',
		q{SELECT user_id FROM iterable_lookup_user('prod', user_id => 'eve')}),
	'eve',
	'a look-up without shared_preload_libraries');
$small->stop;

#
# Iterable is away
#
$emulator->stop;
like(lookup_error(q{'prod', user_id => 'canary-person'}),
	qr/^08001: /, 'Iterable cannot be reached');
like(test_connection('prod'),
	qr/^reachable\|false\|.*\nTLS\|null\|not checked\nkey accepted\|null\|not checked\ndata center\|null\|/,
	'a test of the connection says so');

#
# Nothing of it all is in the log
#
$error = sql_error($node,
	q{SET log_min_error_statement = error; CREATE USER MAPPING FOR CURRENT_USER SERVER prod OPTIONS (api_key 'canary canary')});
like($error, qr/^22023: /, 'a mistake next to a key');
$error = sql_error($node,
	q{SET log_min_error_statement = error; SELECT iterable_create_connection('prod', 'us', 'email', 'canary')});
like($error, qr/^42710: /, 'another one');
my $log = log_of($node);
$log =~ s/^.*The file is ".*canary_path"\.?$//mg;
ok($log !~ /canary/, 'no key and no identifier is in the log');
log_lacks($node, $emulator->key, 'nor is the key of the emulator');
$node->stop;

done_testing();

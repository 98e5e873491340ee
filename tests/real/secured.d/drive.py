"""Runs tieout against each listener of the broker that tests/real/secured started, and with what each must refuse."""
import base64, concurrent.futures, http.server, json, os, re, signal, subprocess, sys, threading, time, urllib.parse, urllib.request
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

here, state, plain = sys.argv[1], os.environ["STATE"], os.environ["KAFKA_BOOTSTRAP"]
tieout, secrets = os.environ["TIEOUT"], [os.environ[name] for name in ("KEY_PASSWORD", "PASSWORD", "CLIENT_SECRET")]
WRONG = "Zebra-wrong-4"
secrets += [WRONG]
begun = time.time()
failed = []


def say(text):
    print(f"{time.time() - begun:9.3f} s  {text}", flush=True)


def check(holds, text):
    if not holds:
        failed.append(text)
        say(f"WRONG: {text}")


# ---- an authority: tokens that need no signature, for who knows the secret ----------------------------------

given, LIFE = [], 10


class Authority(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        user, secret = (urllib.parse.unquote(part) for part in base64.b64decode(self.headers["authorization"].split()[1]).decode().split(":"))
        if (user, secret, form) != ("tieout", os.environ["CLIENT_SECRET"], {"grant_type": ["client_credentials"], "scope": ["kafka"]}):
            return self.answer(401, {"error": "invalid_client", "error_description": "nobody of this name and secret"})
        part = lambda of: base64.urlsafe_b64encode(json.dumps(of).encode()).decode().rstrip("=")
        now = int(time.time())
        token = f'{part({"alg": "none"})}.{part({"sub": "tieout", "iat": now, "exp": now + LIFE, "jti": len(given)})}.'
        given.append(token)
        self.answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": LIFE})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


authority = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Authority)
threading.Thread(target=authority.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{authority.server_port}/token"

# ---- the broker, through the listener that asks nothing -------------------------------------------------------

admin = AdminClient({"bootstrap.servers": plain})
user = lambda mechanism: UserScramCredentialUpsertion("tieout", ScramCredentialInfo(mechanism, 4096), os.environ["PASSWORD"].encode())
for done in [*admin.alter_user_scram_credentials([user(ScramMechanism.SCRAM_SHA_256)]).values(), *admin.alter_user_scram_credentials([user(ScramMechanism.SCRAM_SHA_512)]).values(), *admin.create_topics([NewTopic("plan", 2, 1), NewTopic("booked", 2, 1)]).values()]:
    done.result(20)
producer = Producer({"bootstrap.servers": plain})
rows = {}


def change(n):
    rows[n] = {"id": n, "amount": n * 7}
    for topic in ("plan", "booked"):
        producer.produce(topic, json.dumps(rows[n]), json.dumps({"id": n}))


for n in range(100):
    change(n)
producer.flush()


def written(way):
    """What a reader of what is committed finds in the output topic: the last value of each key."""
    consumer = Consumer({"bootstrap.servers": plain, "group.id": f"look-{way}-{time.time()}", "auto.offset.reset": "earliest", "enable.partition.eof": True})
    consumer.subscribe([f"out.{way}"])
    found, ends, patience = {}, 0, time.time() + 10
    while time.time() < patience and not (ends and found):
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            ends += 1
        else:
            found[json.loads(message.key())["id"]] = json.loads(message.value())
    consumer.close()
    return found


# ---- tieout -----------------------------------------------------------------------------------------------------

seen = []  # everything that tieout ever said, with who said it


def configure(way, connection, more=""):
    folder = f"{state}/{way}"
    os.makedirs(f"{folder}/dataflows", exist_ok=True)
    with open(f"{folder}/config.yaml", "w") as out:
        out.write(f'name: {way}\ndata_dir: {folder}/state\ntick: 20ms\nhttp: {{ listen: "127.0.0.1:0" }}\ncheckpoint: {{ interval: 500ms }}\nconnections:\n  bus:\n    kind: kafka\n{connection}{more}')
    with open(f"{here}/dataflows/secured.yaml") as flow, open(f"{folder}/dataflows/secured.yaml", "w") as out:
        out.write(flow.read())
    return folder


def run(folder, way, *arguments, env={}, patience=40):
    done = subprocess.run([tieout, *arguments], cwd=folder, env={**os.environ, "WAY": way, "WRONG": WRONG, **env}, capture_output=True, text=True, timeout=patience)
    seen.append((f"{way}: {' '.join(arguments)}", done.stdout + done.stderr))
    return done


def goes(way, connection):
    """Reads, writes and looks through a connection, with everything that it says kept."""
    folder, started = configure(way, connection), time.time()
    checked = run(folder, way, "check")
    check(checked.returncode == 0, f"{way}: check says {checked.stdout}{checked.stderr}")
    said = open(f"{state}/{way}.said", "w+")
    process = subprocess.Popen([tieout, "run", "--log", "debug"], cwd=folder, env={**os.environ, "WAY": way}, stdout=said, stderr=said)
    try:
        address = until(lambda: re.search(r"127\.0\.0\.1:(\d+)", open(said.name).read()), 60, process)
        ask = lambda path: urllib.request.urlopen(f"http://127.0.0.1:{address[1]}{path}", timeout=5).read().decode()
        until(lambda: ask("/readyz") is not None, 60, process)
        ready = time.time() - started
        until(lambda: written(way) == rows, 60, process)
        if way == "oauth":
            # Longer than a token holds, and than the broker believes one.
            time.sleep(LIFE + 2)
            change(max(rows) + 1)
            producer.flush()
            until(lambda: max(rows) in written(way), 60, process)
            check(len(set(given)) > 5, f"oauth: only {len(given)} tokens were asked for")
        for path in ("/readyz", "/metrics", "/api/v1/comparisons", "/api/v1/sources", "/api/v1/rejects", "/"):
            seen.append((f"{way}: GET {path}", ask(path)))
        listed = run(folder, way, "sink", "transactions", "list")
        check(listed.returncode == 0 and f"tieout-{way}" in listed.stdout, f"{way}: sink transactions list says {listed.stdout}{listed.stderr}")
        process.send_signal(signal.SIGTERM)
        check(process.wait(60) == 0, f"{way}: it ended with {process.returncode}")
    except Exception as error:
        check(False, f"{way}: {error!r}: {open(said.name).read()[-3000:]}")
    finally:
        process.kill()
        process.wait()
    seen.append((f"{way}: run", open(said.name).read()))
    for name in os.listdir(f"{folder}/state"):
        if os.path.isfile(f"{folder}/state/{name}"):
            seen.append((f"{way}: state/{name}", open(f"{folder}/state/{name}", "rb").read().decode("latin-1")))
    say(f"{way}: read and written, ready after {ready:.1f} s")


def until(holds, patience, process):
    end = time.time() + patience
    while True:
        try:
            found = holds()
            if found:
                return found
        except OSError:
            pass
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        if time.time() > end:
            raise RuntimeError("it was waited for in vain")
        time.sleep(0.1)


def refused(way, connection, code, words, exits=78, within=12, env={}):
    """The start, and the command that asks the brokers, end in time with a code, a cause and a remedy."""
    folder = configure(way, connection)
    for arguments in (["run", "--once"], ["sink", "transactions", "list"]):
        started = time.time()
        try:
            done = run(folder, way, *arguments, env=env)
        except subprocess.TimeoutExpired:
            check(False, f"{way}: {arguments} does not end")
            continue
        took, text = time.time() - started, done.stdout + done.stderr
        check(done.returncode == exits and code in text and all(word in text for word in words), f"{way}: {arguments} says {done.returncode}: {text}")
        check(took < within, f"{way}: {arguments} took {took:.1f} s")
        line = next((line for line in text.splitlines() if code in line), "")
        say(f"{way}: {arguments[0]} after {took:.1f} s: {line[:300]}")


def kafka(brokers, *lines):
    return "".join(f"    {line}\n" for line in [f'brokers: "{brokers}"', *lines])


CA = f"tls: {{ ca: {state}/ca.pem }}"
login = lambda mechanism, password="${env:PASSWORD}": f'sasl: {{ mechanism: {mechanism}, username: tieout, password: "{password}" }}'
tokens = lambda secret="${env:CLIENT_SECRET}", at=url: f'sasl: {{ mechanism: OAUTHBEARER, token_url: "{at}", client_id: tieout, client_secret: "{secret}", scope: kafka }}'
address = os.environ
# A password in a file, as secrets come in Kubernetes.
with open(f"{state}/password", "w") as out:
    out.write(os.environ["PASSWORD"] + "\n")

oauth = threading.Thread(target=goes, args=("oauth", kafka(address["OAUTH"], CA, tokens())))
oauth.start()
goes("tls", kafka(address["TLS"], CA))
goes("mtls", kafka(address["MTLS"], f'tls: {{ ca: {state}/ca.pem, certificate: {state}/tieout.pem, key: {state}/tieout.key, key_password: "${{env:KEY_PASSWORD}}" }}'))
goes("scram-256", kafka(address["SCRAM"], CA, login("SCRAM-SHA-256")))
goes("scram-512", kafka(address["SCRAM"], CA, login("SCRAM-SHA-512", f"${{file:{state}/password}}")))
goes("plain", kafka(address["PLAIN"], login("PLAIN")))
goes("properties", kafka(address["SCRAM"], f'properties: {{ security.protocol: SASL_SSL, ssl.ca.location: {state}/ca.pem, sasl.mechanism: SCRAM-SHA-256, sasl.username: tieout, sasl.password: "${{env:PASSWORD}}" }}'))

oauth.join()
# Some at a time: they mostly wait.
refusals, waiting = concurrent.futures.ThreadPoolExecutor(3), []
later = lambda *of, **more: waiting.append(refusals.submit(refused, *of, **more))
later("wrong-scram", kafka(address["SCRAM"], CA, login("SCRAM-SHA-512", "${env:WRONG}")), "ACCESS_REFUSED", ["connection `bus`", "uthentication failed", "`tls` and `sasl`"])
later("wrong-plain", kafka(address["PLAIN"], login("PLAIN", "${env:WRONG}")), "ACCESS_REFUSED", ["connection `bus`", "uthentication failed"])
later("other-mechanism", kafka(address["SCRAM"], CA, login("PLAIN")), "ACCESS_REFUSED", ["PLAIN", "SCRAM-SHA-512"])
later("strange-broker", kafka(address["TLS"], f"tls: {{ ca: {state}/other.pem }}"), "BROKER_UNTRUSTED", ["connection `bus`", "`tls.ca`"])
later("system-authorities", kafka(address["TLS"], "tls: system"), "BROKER_UNTRUSTED", ["connection `bus`", "`tls.ca`"])
later("other-name", kafka(address["TLS"].replace("127.0.0.1", "localhost"), CA), "BROKER_UNTRUSTED", ["connection `bus`", "as their certificates do"])
later("no-certificate", kafka(address["MTLS"], CA), "ACCESS_REFUSED", ["connection `bus`", "certificate"])
later("wrong-client", kafka(address["OAUTH"], CA, tokens("${env:WRONG}")), "TOKEN_REFUSED", ["invalid_client: nobody of this name", "client_secret"])
later("wrong-key-password", kafka(address["MTLS"], f'tls: {{ ca: {state}/ca.pem, certificate: {state}/tieout.pem, key: {state}/tieout.key, key_password: "${{env:WRONG}}" }}'), "CONNECTION_SETTINGS", ["connection `bus`", "ssl.key.location"])
for one in waiting:
    one.result()

folder = configure("in-the-file", kafka(address["SCRAM"], CA, login("SCRAM-SHA-512", secrets[1])))
done = run(folder, "in-the-file", "check")
check(done.returncode == 78 and "stands in the file itself" in done.stdout + done.stderr, f"in-the-file: {done.stdout}{done.stderr}")
for arguments in (["--help"], ["run", "--help"], ["graph"], ["schema", "config"]):
    run(f"{state}/scram-256", "scram-256", *arguments)
for who, text in seen:
    for secret in secrets + given:
        # A token's last part is empty: it is known by the one before.
        check(secret.rstrip(".") not in text, f"{who}: shows a secret, {secret[:9]}…")
say(f"{len(seen)} outputs, answers and files were looked through for {len(secrets) + len(given)} secrets")
sys.exit(1 if failed else 0)
